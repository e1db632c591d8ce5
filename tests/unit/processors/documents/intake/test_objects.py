"""Old objects of documents, in a folder."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from processors.documents.intake.objects import OldObjects

SHA256 = "ab" * 32
OF_DOCUMENTS = f"demo/documents/book/{SHA256}"
OTHERS = (f"demo/run-1/{SHA256}", f"demo/documents/{SHA256}", "demo/documents/book/readme.txt")


def written(folder: Path) -> set[str]:
    for key in (OF_DOCUMENTS, *OTHERS):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(b"x")
    return {OF_DOCUMENTS, *OTHERS}


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_old_objects_of_documents_go_and_others_stay(tmp_path: Path) -> None:
    written(tmp_path)
    await OldObjects(str(tmp_path), clock=lambda: datetime.now(UTC), kept=timedelta(seconds=-60)).go_on()
    assert left(tmp_path) == set(OTHERS)


async def test_young_objects_stay(tmp_path: Path) -> None:
    there = written(tmp_path)
    await OldObjects(str(tmp_path), clock=lambda: datetime.now(UTC)).go_on()
    assert left(tmp_path) == there

"""Files of submissions, record by record."""

from pathlib import Path
from typing import Any

import pytest

from deploy.load.job_files import FileRecord, NotAFile, read_records
from schemas.jobs.builtin import BUILTIN_TYPES

ECHO = next(each for each in BUILTIN_TYPES if each.name == "echo").schema
SCHEMA: dict[str, Any] = {
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "many": {"type": "array"},
        "level": {"$ref": "#/$defs/Level"},
        "flag": {"type": ["boolean", "null"]},
    },
    "$defs": {"Level": {"enum": ["1", "2"]}},
}


def read(path: Path, text: str | bytes, **options: Any) -> list[FileRecord]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_records(path, **({"task_type": "echo", "schema": SCHEMA} | options)))


def parameters(record: FileRecord) -> dict[str, Any]:
    assert record.submission is not None, record.fault
    return dict(record.submission["parameters"])


def test_a_cell_is_what_the_schema_takes(tmp_path: Path) -> None:
    text = 'text,count,maybe,either,many,level,flag\n7,7,7,7,"[1, 2]",1,true\n'
    [record] = read(tmp_path / "a.csv", text)
    assert parameters(record) == {
        "text": "7",
        "count": 7,
        "maybe": 7,
        "either": "7",
        "many": [1, 2],
        "level": "1",
        "flag": True,
    }


def test_an_empty_cell_is_left_out_and_a_wrong_one_is_sent_as_it_is(tmp_path: Path) -> None:
    [record] = read(tmp_path / "a.csv", "text,count,unknown\n,x,y\n")
    assert parameters(record) == {"count": "x", "unknown": "y"}


def test_the_types_of_tidegate_are_read(tmp_path: Path) -> None:
    [record] = read(tmp_path / "a.csv", "value,delay_s,fail_attempts\nhello,0.5,2\n", schema=ECHO)
    assert parameters(record) == {"value": "hello", "delay_s": 0.5, "fail_attempts": 2}


def test_records_are_counted_without_the_head_and_empty_lines(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", 'text,count\n\n"two\nlines",1\nshort\nlast,2\n')
    assert [(each.number, each.line, each.fault) for each in found] == [
        (1, 4, None),
        (2, 5, "1 fields, and the first line names 2"),
        (3, 6, None),
    ]


def test_a_csv_that_breaks_off_says_so_at_its_record(tmp_path: Path) -> None:
    first, second = read(tmp_path / "a.csv", 'text\none\n"two')
    assert (first.number, first.fault) == (1, None)
    assert second.number == 2
    assert "no CSV" in (second.fault or "")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "x,x\n1,2\n", "names a parameter twice"),
        ("a.csv", b"x\n\xff\n", "is no UTF-8"),
        ("a.jsonl", b"\xff\n", "is no UTF-8"),
    ],
)
def test_a_file_that_is_none_is_refused_whole(tmp_path: Path, name: str, text: str | bytes, why: str) -> None:
    with pytest.raises(NotAFile, match=why):
        read(tmp_path / name, text)


def test_lines_that_are_no_objects_are_named(tmp_path: Path) -> None:
    found = read(tmp_path / "a.jsonl", '\ufeff{"type": "x"}\n[1]\n{"a":\n{}\n')
    assert [(each.number, each.submission, (each.fault or "")[:14]) for each in found] == [
        (1, {"type": "x"}, ""),
        (2, None, "no JSON object"),
        (3, None, "no JSON: Expec"),
        (4, {"type": "echo"}, ""),
    ]


def test_a_key_is_of_the_content_the_type_and_the_number(tmp_path: Path) -> None:
    def keys(name: str, text: str, **options: Any) -> list[str]:
        return [each.key for each in read(tmp_path / name, text, **options)]

    once = keys("a.csv", "text\n1\n1\n")
    assert len(set(once)) == 2
    assert keys("other-name.csv", "text\n1\n1\n") == once
    assert not set(keys("a.csv", "text\n1\n2\n")) & set(once)
    assert not set(keys("a.csv", "text\n1\n1\n", task_type="other")) & set(once)

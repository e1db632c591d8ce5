"""The project that becomes the wheel `tidegate-client`."""

import ast
import tomllib
from pathlib import Path

import pytest

from deploy.client.wheel import PACKAGE, _needed, _project, renamed, write_sources
from deploy.errors import CommandFailed


def sources(folder: Path) -> dict[str, str]:
    write_sources(folder)
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_has_one_top_level_package_and_imports_none_of_ours(tmp_path: Path) -> None:
    written = sources(tmp_path)
    modules = {name: text for name, text in written.items() if name.endswith(".py")}
    assert {name.partition("/")[0] for name in modules} == {PACKAGE}
    for name, text in modules.items():
        for node in ast.walk(ast.parse(text)):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            ours = {each.partition(".")[0] for each in imported} & {"gateway", "schemas", "processors", "deploy"}
            assert not ours, name


def test_it_needs_little_and_no_more_of_the_contract_than_it_uses(tmp_path: Path) -> None:
    written = sources(tmp_path)
    project = tomllib.loads(written["pyproject.toml"])["project"]
    assert [each.partition(">")[0] for each in project["dependencies"]] == ["aiohttp", "msgspec", "rfc8785"]
    vendored = {name.partition("/_schemas/")[2] for name in written if "/_schemas/" in name and "__init__" not in name}
    top = ["canonical.py", "errors.py", "ids.py", "strictjson.py", "texts.py", "times.py"]
    ours = [
        "documents/states.py",
        "objects/references.py",
        "process/redaction.py",
        "pacing/breaker.py",
        "runs/records.py",
        "runs/rules.py",
        "runs/signature.py",
    ]
    assert vendored == {*top, *ours}


def test_only_names_of_packages_differ_from_our_files(tmp_path: Path) -> None:
    """The wheel is built from the same files: no line is added, removed or changed but for these names."""
    root = Path(__file__).parents[4]
    written = sources(tmp_path)
    for name, text in written.items():
        if not name.endswith(".py") or name.endswith("_schemas/__init__.py"):
            continue
        _, is_schema, inner = name.partition("/_schemas/")
        source = root / "schemas" / inner if is_schema else root / "gateway" / "client" / Path(name).name
        back = text.replace(f"{PACKAGE}._schemas", "schemas").replace(PACKAGE, "gateway.client")
        assert back == source.read_text(), name


def test_imports_are_renamed_and_words_are_not() -> None:
    source = '"""What schemas is."""\nfrom schemas import a\nfrom schemas.b import c\nschemas_of = "schemas.avsc"\n'
    assert renamed(source) == (
        '"""What schemas is."""\nfrom tidegate_client._schemas import a\nfrom tidegate_client._schemas.b import c\n'
        'schemas_of = "schemas.avsc"\n'
    )


def test_the_same_sources_give_the_same_project(tmp_path: Path) -> None:
    assert sources(tmp_path / "a") == sources(tmp_path / "b")


def test_an_import_that_the_wheel_cannot_have_is_a_failure() -> None:
    with pytest.raises(CommandFailed, match=r"imports gateway\.app"):
        _needed(["from gateway.app import create_app"])
    with pytest.raises(CommandFailed, match="imports yaml"):
        _project(["import yaml"], [])

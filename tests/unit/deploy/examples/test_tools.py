from pathlib import Path

import pytest

from deploy.examples import tools


def test_a_search_finds_words_that_begin_with_the_stem(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("none\n Storms came\nbrainstorm\n")
    assert tools.search(tmp_path, "storm") == [tools.Match(file="a.txt", line=2, text="Storms came")]


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "link.txt"])
def test_nothing_outside_the_folder_is_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(tools.ToolFailed, match="outside"):
        tools.read_file(folder, name, "utf-8")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * (tools.FILE_BYTES_MAX + 1))
    with pytest.raises(tools.ToolFailed, match="larger"):
        tools.read_file(tmp_path, "a.txt", "utf-8")


def test_another_encoding_is_told_from_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xe5")
    with pytest.raises(tools.OtherEncoding):
        tools.read_file(tmp_path, "a.txt", "utf-8")
    assert tools.read_file(tmp_path, "a.txt", "latin-1") == "å"

"""Which Java runs Kafka."""

from pathlib import Path

import pytest

from deploy.local import java


def make_java(home: Path, version: str) -> Path:
    """Return a program that says the version as java does."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(("said", "major"), [("17.0.2", 17), ("25", 25), ("1.8.0_402", 1)])
def test_the_version_is_read(tmp_path: Path, said: str, major: int) -> None:
    assert java.version(make_java(tmp_path, said)) == major


def test_java_home_wins_if_it_is_new_enough(tmp_path: Path) -> None:
    program = make_java(tmp_path, "17.0.2")
    assert java.find({"JAVA_HOME": str(tmp_path)}) == program


@pytest.mark.parametrize("home", ["old", "missing"])
def test_another_java_home_is_passed_over(tmp_path: Path, home: str) -> None:
    make_java(tmp_path / "old", "11.0.1")
    assert java.find({"JAVA_HOME": str(tmp_path / home)}) == java.find({})

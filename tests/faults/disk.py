"""A disk that a test can fill: a tmpfs of a size that it names. Needs root, as every mount does."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
CHUNK = bytes(64 * 1024)


class Disk:
    """What is mounted."""

    def __init__(self, folder: Path) -> None:
        """Wrap the disk mounted at *folder*."""
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave no byte."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while file.write(CHUNK):
                    pass
            except OSError:
                assert os.statvfs(self.folder).f_bavail == 0

    def free(self) -> None:
        """Give the bytes back."""
        self._filler.unlink()


@contextmanager
def small_disk(folder: Path, *, size_mib: int) -> Iterator[Disk]:
    """Mount a disk at *folder*, which exists, and keep the folder's owner and mode."""
    before = folder.stat()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode={before.st_mode & 0o777:o}", "tidegate-test", folder],
        check=True,
    )
    try:
        os.chown(folder, before.st_uid, before.st_gid)
        yield Disk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)

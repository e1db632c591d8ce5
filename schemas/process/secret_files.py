"""
The one rule on who may read a file that holds secrets: its owner and its group, nobody else; the group may not write.

Why the group: a container's user often reads a mounted secret by its group (Kubernetes with `fsGroup` and
`defaultMode: 0440`). The mode counts, not who asks, so that root is held to it as well.
"""

import stat
from pathlib import Path

_REFUSED_BITS = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP


class SecretFileExposed(ValueError):
    """Others may read or change a file of secrets. Do not use it; the text has the command that closes it."""


def exposure(path: Path, mode: int) -> str | None:
    """Return why a file of *mode* is exposed and what to do; None if it is not."""
    if not mode & _REFUSED_BITS:
        return None
    return (
        f"{path} holds secrets and has mode {stat.S_IMODE(mode):04o}, which lets other users read or change it: "
        f"run `chmod 600 {path}`, or `chmod 640 {path}` where a group must read it"
    )


def check_mode(path: Path, mode: int) -> None:
    """Raise SecretFileExposed if a file of *mode* is exposed."""
    if (fault := exposure(path, mode)) is not None:
        raise SecretFileExposed(fault)


def read_text(path: Path) -> str:
    """
    Return the text of a file of secrets.

    Raises:
        SecretFileExposed: see `check_mode`.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    check_mode(path, path.stat().st_mode)
    return path.read_text()

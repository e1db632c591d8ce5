"""
Readers and writers of small files that other processes watch: credentials, and other files mounted into a container.

Write-and-rename does not suffice: a file that is mounted alone cannot be replaced by rename (EBUSY), and a file
that is replaced must stay readable for the account that reads it.
"""

import os
import secrets
import stat
from pathlib import Path

OWNER_ONLY = 0o600


def replace_text(path: Path, text: str) -> bool:
    """
    Replace the content of *path*; a file that exists keeps its owner, group and mode, a new one is for its owner alone.

    Return True if it was replaced in one step. False: its folder does not allow that, so that the content was written
    over the old one, and a reader may have seen a part of it for a moment.

    Raises:
        OSError: neither is possible. The old content is there.
    """
    target = path.resolve()  # a link stays a link
    try:
        _replace(target, text)
    except OSError:
        if not target.exists():
            raise
        _overwrite(target, text)
        return False
    return True


def _replace(target: Path, text: str) -> None:
    before = target.stat() if target.exists() else None
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if before is not None:
                made = os.fstat(file.fileno())
                if (before.st_uid, before.st_gid) != (made.st_uid, made.st_gid):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _overwrite(target: Path, text: str) -> None:
    content = text.encode()
    # Not truncated first: between the two steps a reader would see an empty file.
    descriptor = os.open(target, os.O_WRONLY)
    try:
        written = 0
        while written < len(content):
            written += os.pwrite(descriptor, content[written:], written)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_failure(path: Path, error: OSError | ValueError) -> str:
    """Return why *path* could not be used, and what to do where its permissions are the reason."""
    if not isinstance(error, PermissionError):
        return f"{path}: {error.strerror if isinstance(error, OSError) else error}"
    user = os.geteuid()
    try:
        status = path.stat()
    except OSError:
        return f"{path} cannot be read: a folder above it is closed to user {user}, as which this process runs"
    return (
        f"{path} cannot be read: this process runs as user {user}, and the file belongs to user {status.st_uid} with "
        f"mode {stat.S_IMODE(status.st_mode):04o}. Run `chown {user} {path.name}`, or give it to a group of that user "
        f"and run `chmod 640 {path.name}`"
    )


def replaced_outside(path: Path) -> bool:
    """
    Return True if the file at *path* has no name any more: it is mounted alone, and was replaced by rename where it is
    kept.

    Its new content cannot be seen through the mount.
    """
    return path.stat().st_nlink == 0

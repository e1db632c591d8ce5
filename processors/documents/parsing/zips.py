"""Archives whose bounds are counted while they are inflated: their own headers may lie about every size."""

import zipfile
import zlib
from io import BytesIO

from processors.documents.parsing.results import Reason, UnreadableUpload
from schemas.documents.kinds import ARCHIVE_MAGIC

ENTRIES_MAX = 2000
ENTRY_BYTES_MAX = 64 * 1024 * 1024
TOTAL_BYTES_MAX = 128 * 1024 * 1024
RATIO_MAX = 200  # of inflated bytes to those in the archive
RATIO_FROM_BYTES = 1024 * 1024

_READ_BYTES = 64 * 1024
_DIRECTORY_MAGIC = b"PK\x01\x02"  # one before each entry of the directory
_ENCRYPTED_FLAG = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Archive:
    """The files of a zip, read one by one within bounds."""

    def __init__(self, content: bytes) -> None:
        """
        Open an archive.

        Raises:
            UnreadableUpload: it is not an archive, has too many entries, or encrypted ones.
        """
        # Counted before the directory is read, which would take an object for each.
        if content.count(_DIRECTORY_MAGIC) > ENTRIES_MAX:
            raise UnreadableUpload(Reason.ARCHIVE_BOUNDS, f"an archive of more than {ENTRIES_MAX} entries")
        try:
            self._zip = zipfile.ZipFile(BytesIO(content))
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise UnreadableUpload(Reason.CORRUPT, f"the archive cannot be opened: {error}") from error
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}
        self._left_bytes = TOTAL_BYTES_MAX
        if any(entry.flag_bits & _ENCRYPTED_FLAG for entry in self._entries.values()):
            raise UnreadableUpload(Reason.ENCRYPTED, "an archive with encrypted entries")

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytes:
        """
        Return the file *name*, which is in the archive.

        Raises:
            UnreadableUpload: it is beyond a bound, an archive itself, or broken.
        """
        entry = self._entries[name]
        if entry.compress_type not in _METHODS:
            raise UnreadableUpload(Reason.CORRUPT, f"{name[:200]!r} is compressed by an unknown method")
        inflated = bytearray()
        try:
            with self._zip.open(entry) as file:
                while read := file.read(_READ_BYTES):
                    inflated += read
                    self._count(name, len(read), inflated_bytes=len(inflated), packed_bytes=entry.compress_size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise UnreadableUpload(Reason.CORRUPT, f"{name[:200]!r} cannot be read: {error}") from error
        if inflated.startswith(ARCHIVE_MAGIC):
            raise UnreadableUpload(Reason.NESTED_ARCHIVE, f"{name[:200]!r} is an archive in an archive")
        return bytes(inflated)

    def _count(self, name: str, read_bytes: int, *, inflated_bytes: int, packed_bytes: int) -> None:
        self._left_bytes -= read_bytes
        if inflated_bytes > ENTRY_BYTES_MAX or self._left_bytes < 0:
            raise UnreadableUpload(Reason.ARCHIVE_BOUNDS, f"{name[:200]!r} inflates to too many bytes")
        if inflated_bytes > RATIO_FROM_BYTES and inflated_bytes > RATIO_MAX * packed_bytes:
            raise UnreadableUpload(
                Reason.ARCHIVE_BOUNDS, f"{name[:200]!r} inflates to more than {RATIO_MAX} times its size"
            )

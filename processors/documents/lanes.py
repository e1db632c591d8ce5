"""Work on its way to the lanes: records of document.work.high, .normal and .low."""

from collections import defaultdict
from collections.abc import Sequence

from processors.runtime.dead_letters import LogWriter, OutgoingRecord
from processors.runtime.sealing import sealed_record
from schemas.access.credentials import CurrentCredentials
from schemas.documents.codec import WORK_CODEC
from schemas.documents.records import DocumentWork, key_of
from schemas.documents.states import Lane
from schemas.documents.topics import DOCUMENT_WORK_LANES


class WorkWriter:
    """A writer of work to its lanes, which waits for the broker's acknowledgement."""

    def __init__(self, writer: LogWriter, credentials: CurrentCredentials) -> None:
        """Write by *writer*, sealed with the secret in *credentials*."""
        self._writer = writer
        self._credentials = credentials

    async def write(self, work: Sequence[DocumentWork]) -> None:
        """
        Append *work* to its lanes.

        Raises:
            Transient: not acknowledged in time; a repeat may double some, which does no harm.
        """
        by_lane: defaultdict[Lane, list[OutgoingRecord]] = defaultdict(list)
        for each in work:
            by_lane[each.lane].append(self._record(each))
        for lane, records in by_lane.items():
            await self._writer.write(DOCUMENT_WORK_LANES[lane], records)

    def _record(self, work: DocumentWork) -> OutgoingRecord:
        return sealed_record(
            DOCUMENT_WORK_LANES[work.lane],
            record_id=f"dwk_{work.job_id}_{work.generation}",
            key=key_of(work),
            tenant=work.tenant,
            value=WORK_CODEC.encode(work),
            by=self._credentials,
        )

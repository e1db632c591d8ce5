"""Everything that the domains declare, for the tools that handle any topic: `tail`, receipts, dead letters."""

from schemas.codec import Codec
from schemas.events import Record
from schemas.runs.codec import ENDPOINT_STATE, ENVIRONMENT_CAPTURED, RUN_EVENT, RUN_FINALIZED, TRACE_RECORD

CODEC: Codec[Record] = Codec((RUN_EVENT, ENVIRONMENT_CAPTURED, RUN_FINALIZED, TRACE_RECORD, ENDPOINT_STATE))

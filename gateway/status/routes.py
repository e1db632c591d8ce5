"""The routes of receipts and of the status."""

from gateway.http.refusals import LOOKS_INTO_LOG
from gateway.http.routes import Chapter, Route
from gateway.status import handlers as wal
from gateway.status.parts import StatusParts
from gateway.status.views import WalReceipt, WalStatus
from schemas.access.credentials import Right
from schemas.errors import ErrorCode

ROUTES: tuple[Route[StatusParts], ...] = (
    Route(
        method="GET",
        path="/api/wal/status",
        handler=wal.show_status,
        answer=WalStatus,
        right=Right.READ,
        refusals=LOOKS_INTO_LOG,
    ),
    Route(
        method="GET",
        path="/api/wal/{topic}/{partition}/{offset}",
        handler=wal.show_receipt,
        answer=WalReceipt,
        right=Right.READ,
        refusals=(*LOOKS_INTO_LOG, ErrorCode.NOT_FOUND),
    ),
)

CHAPTER: Chapter[StatusParts] = Chapter(
    tag="log",
    description="The outcome of a record, and the status of the log and its consumer groups.",
    routes=ROUTES,
)

"""The routes of receipts and of the status."""

from gateway.handlers import wal
from gateway.receipts.views import WalReceipt, WalStatus
from gateway.refusals import LOOKS_INTO_LOG
from gateway.route import Route
from gateway.status.parts import StatusParts
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

"""The dependencies of the handlers of receipts and of the status."""

from dataclasses import dataclass

from gateway.status.monitor import StatusMonitor
from gateway.status.receipts import Receipts


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusParts:
    """The dependencies of the handlers of receipts and of the status."""

    receipts: Receipts
    monitor: StatusMonitor

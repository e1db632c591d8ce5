"""What the handlers of receipts and of the status work with."""

from dataclasses import dataclass

from gateway.status.monitor import StatusMonitor
from gateway.status.receipts import Receipts


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusParts:
    """What the handlers of receipts and of the status work with."""

    receipts: Receipts
    monitor: StatusMonitor

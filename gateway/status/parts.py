"""What the handlers of receipts and of the status work with."""

from dataclasses import dataclass

from gateway.receipts.receipts import Receipts
from gateway.receipts.survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusParts:
    """What the handlers of receipts and of the status work with."""

    receipts: Receipts
    survey: Survey

"""Rejected records as rows: the columns that the tables of every domain share."""

from typing import Any

from processors.runtime.contract import Arrival
from processors.runtime.receiving import received_at
from schemas.errors import Rejection


def rejection_columns(arrival: Arrival[Any], rejection: Rejection) -> tuple[object, ...]:
    """Return reason, detail, key, value and received_at of a rejected record."""
    raw = arrival.raw
    return rejection.reason, rejection.detail.replace("\0", ""), raw.key, raw.value, received_at(arrival)

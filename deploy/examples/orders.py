"""The actions of three users of a shop, sent as user events, and the function that processes their orders."""

import secrets
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

TYPES = Path(__file__).with_suffix(".toml")
USERS = ("Asta", "Bo", "Cleo")
BASKETS = (("rope, 20 m", "31.50"), ("lantern", "48.00"), ("tide table", "12.25"))
ORDER = "order_completed"


class Event(Protocol):
    """The fields of an event that `on_order` reads."""

    payload: Any
    event_id: str


async def on_order(event: Event) -> Mapping[str, object]:
    """Sum an order up; what is returned becomes the event's `result`."""
    lines = event.payload["lines"]
    total = sum((Decimal(line["price"]) for line in lines), Decimal(0))
    return {"lines": len(lines), "total": str(total), "invoice": f"invoice-{event.event_id}"}


def visits() -> Sequence[Mapping[str, object]]:
    """Return the events of one visit of each user: pages, a basket that fills, and an order."""
    events: list[Mapping[str, object]] = []
    for number, name in enumerate(USERS):
        user_id = f"{name.lower()}-{secrets.token_hex(3)}"
        lines = [{"article": article, "price": price} for article, price in BASKETS[: number + 1]]
        events.append(_event("page_view", user_id, name="Shop Viewed", payload={"page": "/"}))
        events += [_event("product_added", user_id, name="Product Added", payload=line) for line in lines]
        total = str(sum(Decimal(line["price"]) for line in lines))
        order = {"lines": lines, "total": total}
        events.append(_event(ORDER, user_id, name="Order Completed", payload=order))
    return events


def _event(kind: str, user_id: str, *, name: str, payload: Mapping[str, object]) -> Mapping[str, object]:
    return {"id": secrets.token_hex(8), "type": kind, "name": name, "user_id": user_id, "payload": payload}

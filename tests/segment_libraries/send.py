"""Sends events with Segment's and RudderStack's libraries for Python; writes the errors that they report."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any

from rudderstack.analytics.client import Client as RudderStackClient
from segment.analytics.client import Client as SegmentClient

MOMENT = datetime(2026, 11, 20, 10, tzinfo=UTC)
COUNT = 120  # more than a batch holds

errors: list[str] = []


def note(error: Exception, _calls: list[Any]) -> None:
    """Keep an error that a library reports."""
    errors.append(str(error))


host, key, user = os.environ["GATEWAY"], os.environ["API_KEY"], os.environ["USER_ID"]
for name, client in (
    ("segment", SegmentClient(key, host=host, on_error=note, gzip=True)),
    ("rudder", RudderStackClient(key, host=host, on_error=note)),
):
    client.identify(user, {"plan": "pro"}, timestamp=MOMENT, message_id=f"{user}-{name}-identify")
    client.group(user, "g-1", {"seats": 3}, message_id=f"{user}-{name}-group")
    client.page(user, "Docs", "Home", {"url": "/"}, message_id=f"{user}-{name}-page")
    client.screen(user, "App", "Cart", {"items": 2}, message_id=f"{user}-{name}-screen")
    client.alias(f"visitor-{user}", user, message_id=f"{user}-{name}-alias")
    client.track(user, "x" * 256, message_id=f"{user}-{name}-refused")
    for number in range(COUNT):
        client.track(user, "Order Completed", {"n": number}, message_id=f"{user}-{name}-{number}")
    client.flush()
    client.shutdown()
    refused = type(client)("tg_wrong_key", host=host, on_error=note)
    refused.track(user, "Order Completed")
    refused.flush()
    refused.shutdown()
sys.stdout.write(json.dumps(errors) + "\n")

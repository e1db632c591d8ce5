"""Libraries of others that speak Segment's protocol, on the running stack: only their host and write key change."""

import json
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.integration.test_generated_clients import run
from tests.support.api import STORED_S
from tests.support.stack import RunningStack, wait_until
from tests.support.tools import need
from tests.support.user_events import UserEventClient

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "segment_libraries"
GUIDE = ROOT / "deploy" / "docs" / "events.md"
GUIDES_USER = "auth0|5f7c"
MOMENT = datetime(2026, 11, 20, 10, tzinfo=UTC)  # at which a user is identified


def guide() -> str:
    """Return the program of the guide."""
    [program] = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return str(program)


def new_user() -> str:
    return f"u-{secrets.token_hex(6)}"


def settings(stack: RunningStack, user: str) -> dict[str, str]:
    """Return what a program that sends events reads."""
    return {"GATEWAY": stack.addresses.gateway, "API_KEY": stack.addresses.api_key, "USER_ID": user}


def stored(stack: RunningStack, user: str, *, count: int) -> Mapping[str, Any]:
    """Return the events of *user* by id, once there are *count*."""
    client = UserEventClient(stack)
    found: dict[str, Any] = {}

    def are_stored() -> bool:
        status, page = client.ask("GET", f"/api/v1/events?user_id={quote(user)}&limit=500")
        assert status == 200, page
        found.update({event["event_id"].removeprefix(f"{user}-"): event for event in page["events"]})
        return len(found) >= count

    wait_until(are_stored, timeout_s=STORED_S, what=f"{count} events of {user}")
    return found


def test_libraries_for_python_send_every_type_of_call(stack: RunningStack, tmp_path: Path) -> None:
    """A bad event costs no other one of its batch, and a wrong key is reported to the program."""
    venv, user = tmp_path / "venv", new_user()
    run([sys.executable, "-m", "venv", venv], tmp_path, {})
    requirements = SOURCES / "requirements.txt"
    run([venv / "bin" / "pip", "install", "--quiet", "--require-hashes", "-r", requirements], tmp_path, {})
    python = venv / "bin" / "python"
    run([python, "-c", guide()], tmp_path, {"GATEWAY": stack.addresses.gateway, "KEY": stack.addresses.api_key})
    stored(stack, GUIDES_USER, count=1)
    told = run([python, SOURCES / "send.py"], tmp_path, settings(stack, user))
    errors = json.loads(told.splitlines()[0])
    assert len(errors) == 2, errors
    assert all("UNAUTHENTICATED" in error for error in errors)
    events = stored(stack, user, count=2 * 125)
    assert len(events) == 2 * 125
    for name in ("segment", "rudder"):
        assert f"{name}-refused" not in events
        assert events[f"{name}-identify"]["payload"] == {"plan": "pro"}
        assert datetime.fromisoformat(events[f"{name}-identify"]["occurred_at"]) == MOMENT
        assert events[f"{name}-group"]["context"]["groupId"] == "g-1"
        assert (events[f"{name}-page"]["type"], events[f"{name}-page"]["name"]) == ("page", "Home")
        assert (events[f"{name}-screen"]["type"], events[f"{name}-screen"]["name"]) == ("screen", "Cart")
        assert events[f"{name}-alias"]["context"]["previousId"] == f"visitor-{user}"
        assert [events[f"{name}-{number}"]["payload"]["n"] for number in range(120)] == list(range(120))
        assert {event["source"] for event in events.values()} == {"segment"}


def test_the_library_for_node_sends_its_events(stack: RunningStack, tmp_path: Path) -> None:
    node, npm = need("node", package="nodejs"), need("npm")
    folder, user = tmp_path / "node", new_user()
    shutil.copytree(SOURCES, folder)
    run([npm, "ci", "--ignore-scripts"], folder, {})
    told = json.loads(run([node, "send.js"], folder, settings(stack, user)).splitlines()[0])
    assert told["statuses"] == [200, 401]
    assert len(told["errors"]) == 1, told
    events = stored(stack, user, count=41)
    assert len(events) == 41
    assert events["node-identify"]["payload"] == {"plan": "pro"}
    assert [events[f"node-{number}"]["payload"]["n"] for number in range(40)] == list(range(40))

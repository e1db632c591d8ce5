"""A run as a file: exported from the running stack, proved offline, and no longer once it is touched."""

import json
import os
from pathlib import Path

import pytest

from deploy.local.development import TENANT
from deploy.local.folders import OBJECTS
from schemas.catalogue import CODEC
from schemas.objects.references import INLINE_BYTES_MAX
from tests.integration import test_gateway
from tests.integration.test_gateway import VERBATIM, new_run
from tests.integration.test_large_payloads import body
from tests.integration.test_large_payloads import payload as large
from tests.integration.test_receipts import Client, produce
from tests.support import builders
from tests.support.stack import RunningStack, TidegateFailed, tidegate

# Verification asks nobody.
OFFLINE = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}


@pytest.fixture
def run_id(stack: RunningStack) -> str:
    """Return a finalized run: numbers with their digits, a payload in object storage, signed events."""
    client, texts, run_id = Client(stack), test_gateway.Client(stack), new_run()
    for seq, content in enumerate([VERBATIM, large(INLINE_BYTES_MAX + 1)], 1):
        assert texts.ask("POST", f"/api/runs/{run_id}/events", body(run_id, seq, content).encode())[0] == 202
    for seq in (3, 4, 5):
        client.send(builders.signed(builders.event(seq, run_id=run_id), secret=stack.addresses.agent_secret))
    finalize = f"/api/runs/{run_id}/finalize?wait=persistence"
    assert client.ask("POST", finalize, {"status": "succeeded", "event_count": 5})[1]["waited"] is True
    return run_id


def refused(path: Path, *options: str) -> str:
    with pytest.raises(TidegateFailed) as failed:
        tidegate("run", "verify", str(path), *options, environ=OFFLINE)
    assert "exit 1\n" in str(failed.value)
    return str(failed.value)


def test_an_export_is_proved_and_every_touch_of_it_is_named(stack: RunningStack, run_id: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    said = json.loads(stack.command("run", "export", run_id, "-o", str(path), "--json"))
    assert (said["events"], said["bytes"]) == (5, path.stat().st_size)
    verified = json.loads(tidegate("run", "verify", str(path), "--json", environ=OFFLINE))
    trace = Client(stack).ask("GET", f"/api/runs/{run_id}/trace")[1]
    assert (verified["verified"], verified["chain_head"]) == (True, trace["chain_head"])
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(f'demo-agent = "{stack.addresses.agent_secret}"\n')
    secrets.chmod(0o600)
    proved = ("--head", trace["chain_head"], "--secret-file", str(secrets))
    shown = tidegate("run", "verify", str(path), *proved, environ=OFFLINE)
    assert "signatures: 3 verified, 2 of agents without a secret here" in shown
    assert "signature" in refused(path, "--secret", "demo-agent=wrong")
    assert "not in the head that was given" in refused(path, "--head", "00" * 32)

    lines = path.read_bytes().splitlines(keepends=True)
    assert f'"payload":{VERBATIM},'.encode() in lines[1]
    touched = {
        "line 2 (seq 1): event_sha256 is not": [lines[0], lines[1].replace(b"1.00", b"1.01"), *lines[2:]],
        "line 3 (seq 3): the chain does not go on from seq 1": [*lines[:2], *lines[3:]],
        "line 4 (seq 4): the chain does not go on from seq 2": [*lines[:3], lines[4], lines[3], *lines[5:]],
        "line 7: the file ends behind seq 5": lines[:-1],
        "line 5 (seq 3): the event stands here twice": [*lines[:4], lines[3], *lines[4:]],
        "line 1: the seal is not": [lines[0].replace(run_id.encode(), new_run().encode()), *lines[1:]],
    }
    for says, parts in touched.items():
        path.write_bytes(b"".join(parts))
        assert says in refused(path)


def test_a_run_that_goes_on_is_exported_as_it_is(stack: RunningStack, tmp_path: Path) -> None:
    client, run_id, path = Client(stack), new_run(), tmp_path / "run.jsonl"
    client.send(builders.event(1, run_id=run_id), "?wait=persistence")
    path.write_text(stack.command("run", "export", run_id, "-o", "-"))
    assert '"finalized":false' in path.read_text().splitlines()[-1]
    assert json.loads(tidegate("run", "verify", str(path), "--json", environ=OFFLINE))["finalized"] is False
    assert "not finalized" in tidegate("run", "verify", str(path), environ=OFFLINE)


def test_sums_and_nesting_at_their_bounds_are_exported_and_proved(stack: RunningStack, tmp_path: Path) -> None:
    """Two counts of 2^64-1, and an event of 64 levels written past the gateway; one of 65 is rejected."""
    client, run_id, path = Client(stack), new_run(), tmp_path / "run.jsonl"
    for seq in (1, 2):
        client.send(builders.event(seq, run_id=run_id, payload={"usage": {"n": 2**64 - 1}}))
    for seq, depth, outcome in ((3, 63, "stored"), (4, 64, "rejected")):
        event = builders.event(seq, run_id=run_id, payload=json.loads("[" * depth + "]" * depth))
        value = CODEC.encode(builders.run_event(builders.signed(event, secret=stack.addresses.agent_secret)))
        assert client.settled(produce(stack, value, [], key=run_id.encode()))["outcome"] == outcome
    finalize = f"/api/runs/{run_id}/finalize?wait=persistence"
    assert client.ask("POST", finalize, {"status": "succeeded", "event_count": 3})[1]["waited"] is True
    stack.command("run", "export", run_id, "-o", str(path))
    verified = json.loads(tidegate("run", "verify", str(path), "--json", environ=OFFLINE))
    assert (verified["verified"], verified["event_count"]) == (True, 3)
    assert client.ask("GET", f"/api/runs/{run_id}/trace")[1]["tokens"] == {"n": 2**63 - 1}


def test_a_lost_object_is_a_clear_failure_and_leaves_no_file(stack: RunningStack, run_id: str, tmp_path: Path) -> None:
    [kept] = (stack.folder / OBJECTS / TENANT / run_id).iterdir()
    kept.unlink()
    with pytest.raises(TidegateFailed, match=r"seq 2 \(run.events/\d/\d+\): its payload in object storage is missing"):
        stack.command("run", "export", run_id, "-o", str(tmp_path / "run.jsonl"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_shown(stack: RunningStack, run_id: str) -> None:
    assert Client(stack).ask("PUT", f"/api/runs/{run_id}/environment?wait=persistence", {"model": "none"})[0] == 202
    shown = stack.command("run", "show", run_id)
    for name, value in {
        "status": "succeeded",
        "events": "5",
        "complete": "yes",
        "signed": "3 of 5",
        "model": "none",
    }.items():
        assert any(line.split(maxsplit=1) == [name, value] for line in map(str.strip, shown.splitlines())), shown
    document = json.loads(stack.command("run", "show", run_id, "--json"))
    assert document["integrity"]["chain_head"] == document["trace"]["chain_head"]
    with pytest.raises(TidegateFailed, match="has no run"):
        stack.command("run", "show", new_run())

"""The gateways' own secrets are rotated under load: nothing that was accepted is rejected."""

import re
from pathlib import Path
from urllib.request import urlopen

import msgspec
import psycopg
from confluent_kafka import Message

from schemas.access.rotation import SIGN_AFTER_S
from schemas.kafka.headers import GATEWAY_MAC, TENANT
from schemas.kafka.seal import record_mac_holds
from schemas.runs.topics import RUN_EVENTS
from tests.faults.checker import check
from tests.faults.load import sending
from tests.faults.processes import for_a_while
from tests.faults.rotation import read_credentials, rotate, set_mac_secrets
from tests.support.log import read_topic
from tests.support.stack import RunningStack, wait_until

QUICK_COUNT, QUICK_S = 18, 0.5  # faster than a new secret comes to sign
SLOW_COUNT, SLOW_S = 2, SIGN_AFTER_S + 1.5
RATE_PER_WORKER = 25  # 500 a second
UNSIGNED_DIRECT = re.compile(r'^tidegate_records_total\{.*reason="unsigned_direct".*\} (.*)$', re.MULTILINE)
REJECTED = "SELECT reason, count(*) FROM rejected_events WHERE run_id = ANY(%s) GROUP BY reason"


def test_a_new_first_secret_under_load_rejects_nothing(stack: RunningStack, tmp_path: Path) -> None:
    """Each rotation drops all but the last secret, so that a removed one may still be signing elsewhere."""
    path = stack.folder / "credentials.toml"
    before = read_credentials(path)
    rejected_before = {name: _rejected(stack, name) for name in ("persistence", "evaluation")}
    try:
        with sending(stack, tmp_path / "ledger.jsonl", rate=RATE_PER_WORKER) as load:
            for apart_s in [QUICK_S] * QUICK_COUNT + [SLOW_S] * SLOW_COUNT:
                rotate(stack, keep=1)
                for_a_while(apart_s)
            load.wait_for()
            newest = read_credentials(path).gateway.mac_secrets[0]
    finally:
        now = read_credentials(path)
        set_mac_secrets(path, list(dict.fromkeys([*before.gateway.mac_secrets, *now.gateway.mac_secrets])))
    assert any(_is_sealed_with(newest, record) for record in read_topic(stack, RUN_EVENTS)), "it never came to sign"
    check(stack, [load.ledger])
    runs = list({run_id for run_id, _ in load.ledger.ok})
    with psycopg.connect(stack.addresses.postgres) as database:
        assert database.execute(REJECTED, (runs,)).fetchall() == []
    wait_until(lambda: _lag(stack) == 0, timeout_s=60, what="the webhooks to be sent")
    assert {name: _rejected(stack, name) for name in rejected_before} == rejected_before


def _is_sealed_with(secret: str, record: Message) -> bool:
    found = dict(record.headers() or [])
    return GATEWAY_MAC in found and record_mac_holds(
        found[GATEWAY_MAC],
        [secret],
        topic=record.topic() or "",
        key=record.key() or b"",
        tenant=found[TENANT],
        value=record.value() or b"",
    )


def _metrics(stack: RunningStack, name: str) -> str:
    with urlopen(f"{stack.addresses.management[name]}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def _rejected(stack: RunningStack, name: str) -> float:
    return sum(map(float, UNSIGNED_DIRECT.findall(_metrics(stack, name))))


def _lag(stack: RunningStack) -> int:
    groups = msgspec.json.decode(stack.command("lag", "--json"))
    return sum(partition["records"] or 0 for partition in groups)

"""The gateways' own secrets are rotated under load: nothing that was accepted is rejected."""

import re
import tomllib
from pathlib import Path
from urllib.request import urlopen

import msgspec
import psycopg

from schemas import credentials as credentials_file
from schemas.credentials import Credentials, Gateway
from tests.faults.checker import check
from tests.faults.load import sending
from tests.faults.processes import for_a_while
from tests.stack import RunningStack, wait_until

ROTATIONS = 20
APART_S = 0.7
RATE_PER_WORKER = 25  # 500 a second
UNSIGNED_DIRECT = re.compile(r'^tidegate_records_total\{.*reason="unsigned_direct".*\} (.*)$', re.MULTILINE)
REJECTED = "SELECT reason, count(*) FROM rejected_events WHERE run_id = ANY(%s) GROUP BY reason"


def test_a_new_first_secret_under_load_rejects_nothing(stack: RunningStack, tmp_path: Path) -> None:
    """Each rotation drops all but the last secret, so that a removed one may still be signing elsewhere."""
    path = stack.folder / "credentials.toml"
    before = _read(path)
    rejected_before = {name: _rejected(stack, name) for name in ("persistence", "evaluation")}
    try:
        with sending(stack, tmp_path / "ledger.jsonl", rate=RATE_PER_WORKER) as load:
            for _ in range(ROTATIONS):
                current = _read(path)
                secrets = [credentials_file.new_secret(), current.gateway.mac_secrets[0]]
                credentials_file.write(path, msgspec.structs.replace(current, gateway=Gateway(mac_secrets=secrets)))
                for_a_while(APART_S)
            load.wait_for()
    finally:
        kept = list(dict.fromkeys([*before.gateway.mac_secrets, *_read(path).gateway.mac_secrets]))
        credentials_file.write(path, msgspec.structs.replace(_read(path), gateway=Gateway(mac_secrets=kept)))
    check(stack, [load.ledger])
    runs = list({run_id for run_id, _ in load.ledger.ok})
    with psycopg.connect(stack.addresses.postgres) as database:
        assert database.execute(REJECTED, (runs,)).fetchall() == []
    wait_until(lambda: _lag(stack) == 0, timeout_s=60, what="the webhooks to be sent")
    assert {name: _rejected(stack, name) for name in rejected_before} == rejected_before


def _read(path: Path) -> Credentials:
    return msgspec.convert(tomllib.loads(path.read_text()), Credentials)


def _metrics(stack: RunningStack, name: str) -> str:
    with urlopen(f"{stack.addresses.management[name]}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def _rejected(stack: RunningStack, name: str) -> float:
    return sum(map(float, UNSIGNED_DIRECT.findall(_metrics(stack, name))))


def _lag(stack: RunningStack) -> int:
    groups = msgspec.json.decode(stack.command("lag", "--json"))
    return sum(partition["records"] or 0 for partition in groups)

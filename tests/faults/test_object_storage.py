"""The way to S3 is cut or stalls: large events are refused, none is lost or doubled, and small ones go on."""

import json
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from schemas.objects.references import INLINE_BYTES_MAX
from tests.faults.checker import check
from tests.faults.load import sending
from tests.faults.processes import OwnProcess, own_process
from tests.faults.proxy import Proxy, proxied
from tests.faults.test_network import cut_off
from tests.support import builders
from tests.support.s3 import BUCKET, aws, s3_server
from tests.support.stack import RunningStack, wait_until

GOES_ON_S = 90.0
EVENTS = 100


@pytest.mark.parametrize(
    "part", [Proxy.reset, pytest.param(Proxy.stall, marks=pytest.mark.soak)], ids=lambda f: f.__name__
)
def test_large_events_are_refused_without_object_storage_and_go_on_when_it_is_back(
    stack: RunningStack, tmp_path: Path, part: Callable[[Proxy], None]
) -> None:
    with (
        s3_server() as port,
        proxied("127.0.0.1", port) as proxy,
        own_process(
            stack,
            tmp_path,
            "gateway",
            environ={**aws(proxy.port), "TIDEGATE_OBJECTS": f"s3://{BUCKET}/{tmp_path.name}"},
        ) as gateway,
    ):
        gateway.wait_ready()
        with sending(
            stack,
            tmp_path / "ledger.jsonl",
            url=gateway.url,
            rate=2,
            payload_bytes=INLINE_BYTES_MAX,
            first=EVENTS,
            retry_for_s=GOES_ON_S,
        ) as load:
            with cut_off(proxy, part):
                load.demand_none(for_s=2.0)
                assert gateway.is_ready()
                run_id = f"small-{tmp_path.name}"
                event = json.dumps(builders.event(run_id=run_id))
                assert ask(stack, gateway, "POST", f"/api/runs/{run_id}/events", event)[0] == 202
                wait_until(
                    lambda: "object storage unavailable" in gateway.log, timeout_s=GOES_ON_S, what="the log to say so"
                )
            load.wait_for(EVENTS)
        assert load.summary["errors"].keys() <= {"STORE_UNAVAILABLE", "TIMEOUT"}
        check(stack, [load.ledger])
        for run_id in list({run_id for run_id, _ in load.ledger.ok})[:5]:
            status, text = ask(stack, gateway, "GET", f"/api/runs/{run_id}/events?resolve=true")
            assert status == 200
            assert all(event["payload"]["text"] for event in json.loads(text)["events"])


def ask(stack: RunningStack, gateway: OwnProcess, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    place = urlsplit(gateway.url)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=30)
    headers = {"X-API-Key": stack.addresses.api_key, "Content-Type": "application/json"}
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    connection.close()
    return status, text

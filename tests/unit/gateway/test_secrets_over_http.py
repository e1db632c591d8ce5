"""What nobody is to learn: what is sent in confidence, wherever it stands, reaches no log line, metric or error."""

import json

import pytest
import structlog

from gateway.app import ROUTES
from gateway.errors import StoreUnavailable
from gateway.http.routes import Route
from gateway.postgres.pool import PostgresReads
from processors.postgres.writes import PostgresWrites
from schemas.process import logs
from schemas.process.settings import SettingsInvalid
from tests.support import builders
from tests.unit.gateway.conftest import Served

CANARY = "hunter2"


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=name)
@pytest.mark.parametrize("failure", [None, RuntimeError("boom"), StoreUnavailable("away")], ids=str)
async def test_what_is_sent_in_confidence_is_told_nowhere(
    served: Served, route: Route, failure: Exception | None
) -> None:
    """Keys, cookies, user agents, queries and bodies, with a right and with a wrong key, as all goes well or not."""
    served.publisher.failure = served.store.failure = served.log.failure = failure
    path = route.path.replace("{run_id}", builders.RUN).replace("{topic}/{partition}/{offset}", "run.events/0/0")
    event = builders.event(payload=CANARY, meta={CANARY: CANARY, "signature": CANARY})
    told = []
    with structlog.testing.capture_logs(processors=[logs.RENDER_ERRORS]) as lines:
        for key in (served.keys["all"], f"tg_{CANARY}_{CANARY}"):
            headers = {
                "X-API-Key": key,
                "Authorization": f"Bearer {CANARY}",
                "Cookie": CANARY,
                "User-Agent": CANARY,
                "Idempotency-Key": CANARY,
                "traceparent": CANARY,
            }
            query = f"{path}?api_key={CANARY}&limit={CANARY}&cursor={CANARY}&wait={CANARY}&from={CANARY}"
            for target in (path, query):
                async with served.client.request(route.method, target, json=event, headers=headers) as answer:
                    told += [await answer.text(), str(answer.headers)]
    async with served.client.get("/metrics") as metrics:
        told.append(await metrics.text())
    told.append(json.dumps(lines, default=str))
    assert not [text for text in told if CANARY in text or served.keys["all"].split("_")[2] in text]


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql//user:{CANARY}@host/db",
        f"host=host password={CANARY} db",
        f"postgresql://user:{CANARY} {CANARY}@host/db",
    ],
)
def test_a_dsn_that_cannot_be_read_is_not_quoted(dsn: str) -> None:
    """The library would, password and all."""
    for store in (PostgresReads, lambda text: PostgresWrites(text, connections_max=1, application="test")):
        with pytest.raises(SettingsInvalid) as refused:
            store(dsn)
        assert CANARY not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__

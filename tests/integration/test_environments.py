"""What a run ran in, from the client to the store: shown whole, and without a secret anywhere on its way."""

import asyncio
import json
import os
from secrets import token_hex
from typing import Any

import psycopg
import pytest

from gateway.client import TidegateClient
from schemas.runs.topics import RUN_EVENTS
from tests.integration.test_receipts import Client
from tests.support.log import ends, read_topic
from tests.support.stack import RunningStack, wait_until

STORED_WITHIN_S = 30


async def test_no_secret_reaches_the_log_or_the_store(
    stack: RunningStack, database: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = token_hex(12)
    values = {
        "PLAIN_SETTING": f"region {canary[::-1]}",
        "DB_PASSWORD": f"a{canary}",
        "HARMLESS": f"postgresql://ada:{canary}@db/runs",
        "WORDS": f"use tg_0a1b_{canary}, or sk-{canary}, or ghp_{canary}, or AKIA{canary.upper()[:16]}",
        "OPTIONS": f"--verbose --api-key={canary} sslmode=require password={canary}",
        "CERTIFICATE": f"-----BEGIN RSA PRIVATE KEY-----\n{canary}\n-----END RSA PRIVATE KEY-----",
        "DIGEST": f"{canary}{token_hex(12)}",  # one doubled is not random enough to be taken for a digest, at times
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    known, starts = stack.addresses, ends(stack, RUN_EVENTS)
    client = TidegateClient(
        known.gateway,
        api_key=known.api_key,
        agent_id=known.agent_id,
        secret=known.agent_secret,
        model=f"https://models/v1?api_key={canary}",
        variables=list(values),
    )
    async with client as connected:
        await asyncio.wait({connected._parts.environment})  # a busy machine would describe it after the run's end
        async with connected.run() as run:
            await run.event("message", {"text": "hello"})
    path = f"/api/runs/{run.id}"
    wait_until(
        lambda: Client(stack).ask("GET", f"{path}/trace")[0] == 200, timeout_s=STORED_WITHIN_S, what="the trace record"
    )
    shown = Client(stack).ask("GET", f"{path}/environment")[1]["environment"]
    assert shown["variables"]["PLAIN_SETTING"] == values["PLAIN_SETTING"]
    assert set(shown["variables"]) == set(values)
    row = database.execute(
        "SELECT environment::text FROM environment_snapshots WHERE run_id = %s", (run.id,)
    ).fetchone()
    assert row is not None
    records = read_topic(stack, RUN_EVENTS, starts)
    log = b"".join((each.value() or b"") + str(each.headers()).encode() for each in records)
    assert canary[::-1].encode() in log, "what may be seen is seen"
    for seen in (row[0].encode(), log, json.dumps(shown).encode(), stack.log("gateway").encode()):
        assert canary.encode() not in seen
        assert canary.upper()[:16].encode() not in seen
        assert known.api_key.encode() not in seen
        assert known.agent_secret.encode() not in seen
    printed = stack.command("run", "show", run.id, environ=os.environ)
    assert "interpreter" in printed
    assert canary not in printed

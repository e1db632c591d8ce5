"""Every run complete, in order and once, whichever gateway its events go through; and every refusal right."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import psycopg

from schemas.canonical import event_digest
from schemas.catalogue import CODEC
from schemas.runs.records import RunEvent
from schemas.runs.topics import RUN_EVENTS
from tests.faults.processes import OwnProcess, own_process, paused
from tests.faults.records import new_run
from tests.support.builders import event
from tests.support.log import read_topic
from tests.support.stack import RunningStack, wait_until

SEED = 20261125
RUNS, CLIENTS, EVENTS = 50, 20, 12
KILLS = 4
OPEN_RUNS = 1_000
AT_ONCE = 32
STORED_WITHIN_S = 90.0

Answer = tuple[int, Mapping[str, Any]]


@asynccontextmanager
async def asking(stack: RunningStack) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session with the stack's key."""
    headers = {"X-API-Key": stack.addresses.api_key}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def send(session: aiohttp.ClientSession, url: str, given: Mapping[str, Any]) -> Answer:
    """Post one event; an answer that did not come is one of status 0, and tells whether it may have been taken."""
    try:
        async with session.post(f"{url}/api/runs/{given['meta']['run_id']}/events", json=given) as answer:
            return answer.status, await answer.json()
    except aiohttp.ClientConnectorError:
        return 0, {}
    except (aiohttp.ClientError, OSError, TimeoutError):
        return 0, {"sequence": "unknown"}


def in_the_log(stack: RunningStack, runs: Sequence[str]) -> dict[str, list[RunEvent]]:
    """Return the events of *runs* in the order of the log."""
    found: dict[str, list[RunEvent]] = {run_id: [] for run_id in runs}
    for message in read_topic(stack, RUN_EVENTS):
        if (message.key() or b"").decode() in found:
            record = CODEC.decode(message.value())
            assert isinstance(record, RunEvent)
            found[record.run_id].append(record)
    return found


class Traffic:
    """Clients that send events of shared runs through whichever gateway, some of them wrong."""

    def __init__(self, session: aiohttp.ClientSession, urls: Callable[[], Sequence[str]]) -> None:
        self._random = Random(SEED)
        self._session = session
        self._urls = urls
        self.refused: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []  # what was sent, and the problem
        # Of a run and seq, where the answer did not come, or said that the log could not be looked at in time.
        self.unverified: set[tuple[str, int]] = set()

    async def send_all(self, runs: Sequence[str]) -> None:
        """One client: the events of its runs, each until its place is taken."""
        for seq in range(1, EVENTS + 1):
            for run_id in runs:
                given = event(seq, run_id=run_id)
                while not await self._is_taken(given):  # noqa: ASYNC110  # what it waits for tells nobody
                    await asyncio.sleep(0.05)

    async def _is_taken(self, given: Mapping[str, Any]) -> bool:
        if self._random.random() < 0.1:
            wrong = self._random.choice([{"payload": "other"}, {"seq": given["seq"] + 3}])
            await self._send({**given, **wrong})
        status, answer = await self._send(given)
        assert status in (0, 202, 409, 503), answer
        # A conflict says that the wrong one was first: its place is taken.
        return status == 202 or answer.get("code") == "IDEMPOTENCY_CONFLICT"

    async def _send(self, given: Mapping[str, Any]) -> Answer:
        status, answer = await send(self._session, self._random.choice(self._urls()), given)
        if status == 409:
            self.refused.append((given, answer))
        if "sequence" in answer:
            self.unverified.add((given["meta"]["run_id"], given["seq"]))
        return status, answer


async def test_two_gateways_share_runs_under_retries_and_kills(stack: RunningStack, tmp_path: Path) -> None:
    """One of the two is killed again and again; what is wrong is refused with the truth, or by persistence."""
    runs = [new_run() for _ in range(RUNS)]
    with ExitStack() as started:
        other = [started.enter_context(own_process(stack, tmp_path, "gateway"))]
        other[0].wait_ready()

        async def kill() -> None:
            for _ in range(KILLS):
                await asyncio.sleep(1.5)
                other[0].kill(signal.SIGKILL)
                other[0] = started.enter_context(own_process(stack, tmp_path, "gateway"))
                await asyncio.to_thread(other[0].wait_ready)

        async with asking(stack) as session:
            traffic = Traffic(session, lambda: [stack.addresses.gateway, other[0].url])
            await asyncio.gather(kill(), *(traffic.send_all(runs[number::CLIENTS]) for number in range(CLIENTS)))
    assert {problem["code"] for _, problem in traffic.refused} == {"SEQUENCE_ERROR", "IDEMPOTENCY_CONFLICT"}
    log = in_the_log(stack, runs)
    for given, problem in traffic.refused:
        if problem["code"] == "IDEMPOTENCY_CONFLICT":
            same_seq = [record for record in log[given["meta"]["run_id"]] if record.seq == given["seq"]]
            assert same_seq, f"the log has nothing of seq {given['seq']}: {problem}"
            [first, *_] = same_seq
            assert first.event_sha256 != event_digest(given), "the log has no other content"
        else:
            assert problem["expected_seq"] < given["seq"]
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database:
        demand_complete(database, runs, traffic.unverified)


def demand_complete(
    database: psycopg.Connection[Any], runs: Sequence[str], unverified: Container[tuple[str, int]]
) -> None:
    """Demand that each run has its events, those that were verified one after the other in the log."""
    count = "SELECT count(*) FROM trace_events WHERE run_id = ANY(%s) AND seq <= %s"
    wait_until(
        lambda: database.execute(count, (runs, EVENTS)).fetchone() == (RUNS * EVENTS,),
        timeout_s=STORED_WITHIN_S,
        what="every run to be complete",
    )
    in_log_order = "SELECT seq FROM trace_events WHERE run_id = %s AND seq <= %s ORDER BY kafka_offset"
    for run_id in runs:
        order = [seq for (seq,) in database.execute(in_log_order, (run_id, EVENTS)).fetchall()]
        verified = [seq for seq in order if (run_id, seq) not in unverified]
        assert verified == sorted(verified)


async def test_a_gateway_that_restarts_amid_a_thousand_open_runs_knows_each(
    stack: RunningStack, tmp_path: Path
) -> None:
    """It refuses no right event and takes no wrong one, whether the store has them yet or not."""
    runs = [new_run() for _ in range(OPEN_RUNS)]
    async with asking(stack) as session:
        url = stack.addresses.gateway
        assert await each_of(runs[:500], session, url, event(1), event(2)) == [202] * 1000
        with paused([stack.process("persistence").pid]):
            assert await each_of(runs[500:], session, url, event(1), event(2)) == [202] * 1000
            with own_process(stack, tmp_path, "gateway") as fresh:
                fresh.wait_ready()
                await demand_exact(runs, session, fresh)


async def demand_exact(runs: Sequence[str], session: aiohttp.ClientSession, fresh: OwnProcess) -> None:
    """Demand that *fresh* answers each of *runs*, which have two events, as one who took them."""
    for given, expected in (
        (event(4), "SEQUENCE_ERROR"),
        (event(2, payload="other"), "IDEMPOTENCY_CONFLICT"),
        (event(2), "duplicate"),
        (event(3), "accepted"),
        (event(3), "duplicate"),
    ):
        answers = await answers_of(runs, session, fresh.url, given)
        told = {answer.get("code") or answer["status"] for _, answer in answers}
        assert told == {expected}, f"seq {given['seq']}"
        assert not any("sequence" in answer for _, answer in answers), "unverified"


async def each_of(
    runs: Sequence[str], session: aiohttp.ClientSession, url: str, *given: Mapping[str, Any]
) -> list[int]:
    """Send the events to each run in turn; the statuses."""
    return [status for one in given for status, _ in await answers_of(runs, session, url, one)]


async def answers_of(
    runs: Sequence[str], session: aiohttp.ClientSession, url: str, given: Mapping[str, Any]
) -> list[Answer]:
    """Send *given* as an event of each run."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(run_id: str) -> Answer:
        async with free:
            return await send(session, url, {**given, "meta": {**given["meta"], "run_id": run_id}})

    return await asyncio.gather(*(one(run_id) for run_id in runs))

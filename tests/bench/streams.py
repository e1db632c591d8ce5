"""Live streams: how long an event takes to a websocket, and frames a second to a thousand of them."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex
from statistics import median, quantiles
from time import perf_counter

import aiohttp

from tests.bench.bare_broadcast import PAYLOAD
from tests.faults.records import write_as_a_gateway
from tests.support.builders import event, run_event
from tests.support.stack import RunningStack

LATENCY_EVENTS = 200
LATENCY_PAUSE_S = 0.03
SOCKETS = 1000
EVENTS = 200
ANSWER_S = 120.0


def latency_ms(stack: RunningStack) -> dict[str, float]:
    """From a POST's first byte, and from its 202, to the message on a websocket, on an idle system."""
    after_post_s, after_accepted_s = asyncio.run(_latencies_s(stack))
    return {
        "from_post_median": median(after_post_s) * 1000,
        "from_post_p99": quantiles(after_post_s, n=100)[98] * 1000,
        "from_accepted_median": median(after_accepted_s) * 1000,
    }


async def _latencies_s(stack: RunningStack) -> tuple[list[float], list[float]]:
    known, run_id = stack.addresses, f"bench-{token_hex(6)}"
    posted, accepted, told = dict[int, float](), dict[int, float](), dict[int, float]()
    async with (
        asyncio.timeout(ANSWER_S),
        aiohttp.ClientSession(headers={"X-API-Key": known.api_key}) as session,
        session.ws_connect(f"{known.websocket}/ws/runs/{run_id}/") as ws,
    ):
        await ws.receive()

        async def listen() -> None:
            while len(told) < LATENCY_EVENTS:
                message = json.loads((await ws.receive()).data)
                if message["type"] == "trace_event":
                    told[message["event"]["seq"]] = perf_counter()

        listening = asyncio.create_task(listen())
        for seq in range(1, LATENCY_EVENTS + 1):
            posted[seq] = perf_counter()
            url = f"{known.gateway}/api/runs/{run_id}/events"
            async with session.post(url, json=event(seq, run_id=run_id)) as answer:
                assert answer.status == 202, await answer.text()
            accepted[seq] = perf_counter()
            await asyncio.sleep(LATENCY_PAUSE_S)
        await listening
    return (
        [told[seq] - posted[seq] for seq in posted],
        [max(0.0, told[seq] - accepted[seq]) for seq in accepted],
    )


def tidegate_frames_per_s(stack: RunningStack) -> float:
    """Return a thousand websockets on one run, whose events are in the log in one go."""
    run_id = f"bench-{token_hex(6)}"
    records = [
        (run_event(event(seq, run_id=run_id, payload=PAYLOAD), tenant="demo"), seq) for seq in range(1, EVENTS + 1)
    ]
    url = f"{stack.addresses.websocket}/ws/runs/{run_id}/"
    with _watching(url, stack.addresses.api_key) as watchers:
        write_as_a_gateway(stack, *records)
        return _frames_per_s(watchers)


def bare_frames_per_s() -> float:
    """Return the same by a bare aiohttp broadcast loop."""
    command = [sys.executable, "-m", "tests.bench.bare_broadcast", str(EVENTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            with _watching(server.stdout.readline().strip(), "") as watchers:
                server.stdin.write("\n")
                server.stdin.flush()
                return _frames_per_s(watchers)
        finally:
            server.kill()


@contextmanager
def _watching(url: str, api_key: str) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "tests.bench.watchers", "--url", url, "--sockets", str(SOCKETS)]
    command += ["--events", str(EVENTS), "--api-key", api_key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watchers:
        assert watchers.stdout is not None
        assert watchers.stdout.readline() == "open\n"
        yield watchers


def _frames_per_s(watchers: "subprocess.Popen[str]") -> float:
    assert watchers.stdout is not None
    told = json.loads(watchers.stdout.readline())
    assert told["in_order"], told
    return float(told["frames"] / told["seconds"])

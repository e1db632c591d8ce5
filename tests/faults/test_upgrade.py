"""
Processes of two releases at once: the next one has added a field to RunEvent, under a schema id of its own.

Only one version is released, so the next release is a variant of the product that knows one more: it writes the new
version with the field, and has no other value for the field of an earlier record than the schema's default.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from schemas.kafka import codec, headers, registry
from schemas.kafka.compatibility import incompatibilities
from tests.faults.checker import check_committed_is_applied
from tests.faults.database import stored
from tests.faults.next_release import RUN_EVENT
from tests.faults.processes import OwnProcess, held_down, own_process
from tests.faults.records import dead_letters, new_run, nothing_dead_lettered, write_as_a_gateway
from tests.support.builders import event, run_event
from tests.support.stack import RunningStack, wait_until

WITHIN_S = 60.0
SEQS = list(range(1, 9))
OLD, NEW = SEQS[0::2], SEQS[1::2]  # which release writes which
VARIANT = "next_release"


@pytest.fixture
def run_id() -> str:
    return new_run()


def test_the_next_release_is_one_that_may_be_released() -> None:
    assert incompatibilities(RUN_EVENT.schema, registry.last_released()[RUN_EVENT.record_name].schema) == []
    assert RUN_EVENT.id not in {entry.id for entry in registry.released()}


def test_a_worker_of_the_next_release_stores_what_gateways_of_both_wrote_to_one_partition(
    stack: RunningStack, tmp_path: Path, run_id: str
) -> None:
    with (
        nothing_dead_lettered(stack),
        held_down(stack, "persistence"),  # so that both versions lie in one slice
        next_release(stack, tmp_path, "gateway") as gateway,
    ):
        asyncio.run(write_in_turns(stack, gateway, run_id))
        with next_release(stack, tmp_path, "persistence"):
            wait_until(lambda: stored(stack, run_id) == SEQS, timeout_s=WITHIN_S, what="each event to be stored")
            check_committed_is_applied(stack)


def test_what_a_worker_of_the_release_before_cannot_read_is_kept_for_one_of_the_next(
    stack: RunningStack, tmp_path: Path, run_id: str
) -> None:
    """It cannot know whether an id will ever be released: such a record is a dead letter, its neighbours go on."""
    with next_release(stack, tmp_path, "gateway") as gateway:
        asyncio.run(write_in_turns(stack, gateway, run_id))
    wait_until(lambda: stored(stack, run_id) == OLD, timeout_s=WITHIN_S, what="the old version to be stored")
    wait_until(lambda: len(dead_letters(stack, run_id)) == len(NEW), timeout_s=WITHIN_S, what="the dead letters")
    for letter in dead_letters(stack, run_id):
        assert dict(letter.headers() or [])[headers.ERROR_CLASS] == b"unknown_schema"
        assert codec.FRAME.unpack_from(letter.value() or b"") == (codec.MAGIC, RUN_EVENT.id)
    check_committed_is_applied(stack)
    with held_down(stack, "persistence"), next_release(stack, tmp_path, "persistence"):
        stack.command("dlq", "redrive", "--run", run_id, "--yes")
        assert stored(stack, run_id) == SEQS


@contextmanager
def next_release(stack: RunningStack, folder: Path, service: str) -> Iterator[OwnProcess]:
    """Run *service* as the next release has it."""
    with own_process(stack, folder, service, variant=VARIANT) as process:
        process.wait_ready()
        yield process


async def write_in_turns(stack: RunningStack, gateway: OwnProcess, run_id: str) -> None:
    """Let *gateway*, of the next release, take every second event of a run, between those that this release wrote."""
    key, within = {"X-API-Key": stack.addresses.api_key}, aiohttp.ClientTimeout(WITHIN_S)
    async with aiohttp.ClientSession(gateway.url, headers=key, timeout=within) as http:
        for seq in SEQS:
            given = event(seq, run_id=run_id)
            if seq in OLD:
                write_as_a_gateway(stack, (run_event(given), seq))
                continue
            async with http.post(f"/api/runs/{run_id}/events/", json=given) as answer:
                assert answer.status == 202, await answer.text()

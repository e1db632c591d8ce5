"""Periodic tasks are tried again when they fail, say why they wait, and end with the process."""

import asyncio
import os
import signal
import socket

import pytest

from processors.runtime.errors import Transient
from processors.runtime.health import Health
from processors.runtime.periodic import EXIT_UNSETTLED, PeriodicTask, PeriodicTasks, RunsElsewhere
from schemas.process import telemetry
from schemas.process.settings import ManagementSettings
from schemas.process.telemetry import MAINTENANCE_DONE, MAINTENANCE_DURATION
from schemas.runs.telemetry import OF_MAINTENANCE


@pytest.fixture
def management() -> ManagementSettings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return ManagementSettings(host="127.0.0.1", port=probe.getsockname()[1])


def instruments() -> telemetry.Telemetry:
    return telemetry.Telemetry(OF_MAINTENANCE)


async def test_a_task_that_fails_is_tried_again_and_sigterm_cuts_it_off(management: ManagementSettings) -> None:
    health, counted = Health(), instruments()
    seen: list[str] = []
    in_hand = asyncio.Event()

    async def work() -> None:
        seen.append(health.status())
        match len(seen):
            case 1:
                raise Transient("Postgres is away")
            case 2:
                raise RunsElsewhere("another one")
            case 3:
                return
            case _:
                in_hand.set()
                await asyncio.Event().wait()

    tasks = PeriodicTasks(
        [PeriodicTask(name="retention", period_s=0.01, work=work)], health=health, instruments=counted
    )
    running = asyncio.create_task(tasks.run(management))
    async with asyncio.timeout(10):
        await in_hand.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0
    assert seen == ["ready", "degraded", "ready", "ready"]
    done = counted.registry.get_sample_value(MAINTENANCE_DONE.name, {"duty": "retention"})
    assert done is not None
    for outcome in ("failed", "elsewhere", "done"):
        labels = {"duty": "retention", "outcome": outcome}
        assert counted.registry.get_sample_value(f"{MAINTENANCE_DURATION.name}_count", labels) == 1.0 + (
            outcome == "failed"  # what was cut off
        )


async def test_a_bug_ends_the_process(management: ManagementSettings) -> None:
    async def work() -> None:
        raise RuntimeError("a bug")

    tasks = PeriodicTasks(
        [PeriodicTask(name="retention", period_s=0.01, work=work)], health=Health(), instruments=instruments()
    )
    async with asyncio.timeout(10):
        assert await tasks.run(management) == EXIT_UNSETTLED

"""Background jobs of a shop: of several urgencies, one that fails at first, and one that is cancelled while it runs."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import ClientSession

from deploy.errors import CommandFailed

POLL_S = 0.2
TIMEOUT_S = 60.0
FINISHED = ("completed", "failed", "cancelled")
LONG_S = 600  # longer than anybody waits for it
CANCELLED = "export of everything"

Job = Mapping[str, Any]


def submissions() -> Sequence[Mapping[str, object]]:
    """Return what is submitted; the type `echo` returns its value, after a delay or failures."""
    wanted: Sequence[tuple[str, int, Mapping[str, object]]] = (
        ("figures of the night", 1, {"delay_s": 0.3}),
        ("report of the month", 5, {"delay_s": 0.3}),
        ("invoice of a waiting customer", 10, {"delay_s": 0.3}),
        ("import from a shaky server", 5, {"fail_attempts": 1}),
        (CANCELLED, 5, {"delay_s": LONG_S}),
    )
    return [
        {
            "type": "echo",
            "priority": priority,
            "parameters": {"value": "done", **given},
            "metadata": {"what": what},
            "tags": ["demonstration"],
        }
        for what, priority, given in wanted
    ]


async def work(session: ClientSession) -> list[Job]:
    """Submit the jobs in one batch, cancel the long one once it runs, and return all when they are finished."""
    async with session.post("/api/tasks/batch", json=submissions()) as response:
        if response.status != 202:  # noqa: PLR2004
            raise CommandFailed(f"jobs were not accepted: {await response.text()}")
        accepted = (await response.json())["results"]
    async with asyncio.timeout(TIMEOUT_S):
        return list(await asyncio.gather(*(_finished(session, each["task_id"]) for each in accepted)))


async def _finished(session: ClientSession, job_id: str) -> Job:
    while True:
        async with session.get(f"/api/tasks/status/{job_id}") as response:
            job: Job = await response.json()
        if job["status"] in FINISHED:
            return job
        if job["status"] == "running" and job["metadata"]["what"] == CANCELLED and not job["cancel_requested"]:
            async with session.delete(f"/api/tasks/{job_id}"):
                pass
        await asyncio.sleep(POLL_S)

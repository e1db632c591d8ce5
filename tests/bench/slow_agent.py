"""
A slow agent on one partition: how much of the time it is at work, and not waiting to be fed by the runtime.

Run as a process: `python -m tests.bench.slow_agent BOOTSTRAP CREDENTIALS PLAN` handles that range with a handler that
takes a fixed time a record, and prints what came of it as its last line.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, time
from typing import NoReturn

from confluent_kafka import TopicPartition

from deploy.admin import topics as admin
from deploy.local import folders
from processors.runtime.contract import Arrival, Outcome, Settled, Tally
from processors.runtime.dead_letters import NoDeadLetters
from processors.runtime.delivery import Delivery
from processors.runtime.health import Health
from processors.runtime.limit import NO_LIMIT
from processors.runtime.reading import trusting_reader
from processors.runtime.worker import Worker, end_process
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.kafka import replays
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition
from schemas.kafka.replays import Replay
from schemas.process import telemetry
from schemas.process.settings import ManagementSettings
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import RunRecord
from schemas.runs.topics import PERSISTENCE, RUN_EVENTS
from schemas.runs.validity import check_direct
from tests.bench.rows import Produced
from tests.support.stack import RunningStack

RECORDS_PER_S = 25_000  # the handler's own speed
WITHIN_S = 120.0


def measure(stack: RunningStack, produced: Produced) -> dict[str, object]:
    """Return the share of its time that the lane of the fullest partition of *produced* is at work."""
    fullest = max(produced.ends, key=lambda each: produced.ends[each] - produced.starts[each])
    ends = produced.starts | {fullest: produced.ends[fullest]}
    replay = Replay(id="slow-agent", group="persistence", starts=produced.starts, ends=ends)
    begin = [TopicPartition(RUN_EVENTS.name, each, offset) for each, offset in replay.starts.items()]
    admin.commit(stack.kafka, PERSISTENCE.replaying(replay.id), begin)
    plan = stack.folder / folders.REPLAYS / f"{replay.id}.json"
    plan.parent.mkdir(exist_ok=True)
    replays.write(plan, replay)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.slow_agent", stack.addresses.kafka, str(stack.folder / "credentials.toml"),
         str(plan)],
        check=True, stdout=subprocess.PIPE, timeout=WITHIN_S,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "baseline": f"a lane that never waits for its next slice; its handler takes 1/{RECORDS_PER_S} s a record",
        "per_s": found["handled"] / found["elapsed_s"],
        "ratio": found["busy_s"] / found["elapsed_s"],
    }


async def run(kafka: KafkaSettings, credentials: Path, replay: Replay) -> NoReturn:
    """Handle the range, print the speed, end."""
    began_s, ended_s, handled = 0.0, 0.0, 0

    async def handle(arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
        nonlocal began_s, ended_s, handled
        began_s = began_s or perf_counter()  # the first slice's decoding is not in it, that of all others is
        await asyncio.sleep(len(arrivals) / RECORDS_PER_S)
        handled += len(arrivals)
        ended_s = perf_counter()
        return Settled(Tally({(Outcome.DONE, None): len(arrivals)}))

    group, health, instruments = (
        PERSISTENCE.replaying(replay.id),
        Health(),
        telemetry.Telemetry(telemetry.OF_PROCESSORS),
    )
    delivery = Delivery(
        group,
        handle,
        read=trusting_reader(check_direct, codec=RUN_CODEC, credentials=FileCredentials(CredentialsFile(credentials))),
        dead_letters=NoDeadLetters(),
        instruments=instruments,
        health=health,
        limit=lambda: NO_LIMIT,
        clock_s=time,
    )
    ends = {Partition(group.source.name, each): end for each, end in replay.ends.items()}
    worker = Worker(group, kafka=kafka, work=delivery.deliver, health=health, instruments=instruments, ends=ends)
    code = await worker.run(ManagementSettings(host="127.0.0.1", port=0))
    slices = telemetry.SLICE_DURATION.name
    busy_s = instruments.registry.get_sample_value(f"{slices}_sum", {"group": group.name})
    print(json.dumps({"handled": handled, "elapsed_s": ended_s - began_s, "busy_s": busy_s}), flush=True)
    end_process(code)


if __name__ == "__main__":
    asyncio.run(run(KafkaSettings(bootstrap=sys.argv[1]), Path(sys.argv[2]), replays.read(Path(sys.argv[3]))))

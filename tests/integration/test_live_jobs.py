"""Live streams of jobs on the real stack: from a record in the log to a websocket."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from secrets import token_hex
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession, WSMsgType
from confluent_kafka import Producer

from schemas.access.credentials import CredentialsFile
from schemas.catalogue import CODEC
from schemas.jobs.records import JobChanged, JobOutput, JobProgress
from schemas.jobs.states import EndReason, JobStatus
from schemas.jobs.topics import JOB_EVENTS, JOB_REPORTS
from schemas.kafka import headers
from schemas.kafka.clients import producer_config
from schemas.kafka.seal import record_mac
from tests.integration.test_live_streams import Message, Streams, more_credentials, silence, told
from tests.support.builders import TENANT
from tests.support.stack import RunningStack

TOLD_S = 15.0
Value = JobChanged | JobProgress | JobOutput


class Writer:
    """The processes that handle jobs, as far as their records go."""

    def __init__(self, stack: RunningStack) -> None:
        self._producer = Producer(producer_config(stack.kafka, client_id="test"))
        file = CredentialsFile(stack.folder / "credentials.toml")
        self._secret = file.current(now_s=monotonic()).gateway.mac_secrets[0]

    def write(self, *values: Value, sealed: bool = True) -> None:
        for value in values:
            topic = JOB_EVENTS.name if isinstance(value, JobChanged) else JOB_REPORTS.name
            key, tenant, encoded = value.job_id.encode(), value.tenant.encode(), CODEC.encode(value)
            mac = record_mac(self._secret, topic=topic, key=key, tenant=tenant, value=encoded)
            sent = [(headers.TENANT, tenant), (headers.GATEWAY_MAC, mac)] if sealed else []
            self._producer.produce(topic, encoded, key, headers=sent)
        assert self._producer.flush(TOLD_S) == 0


class Job:
    """Records of one job."""

    def __init__(self, tenant: str = TENANT, job_id: str | None = None) -> None:
        self.tenant = tenant
        self.id = job_id or str(uuid4())
        self.path = f"/ws/tasks/{self.id}/"
        self._attempt_id = token_hex(8)

    def state(self, version: int, status: JobStatus = JobStatus.PENDING, **changes: Any) -> JobChanged:
        fields: dict[str, Any] = {"type": "echo", "queue": "default", "priority": 5, "attempts": 0}
        fields |= {"at_ms": 1_767_225_600_000 + version, **changes}
        return JobChanged(tenant=self.tenant, job_id=self.id, version=version, status=status, **fields)

    def progress(self, fraction: float) -> JobProgress:
        return JobProgress(
            tenant=self.tenant, job_id=self.id, attempt_id=self._attempt_id, fraction=fraction, message="on", at_ms=0
        )

    def output(self, text: str) -> JobOutput:
        return JobOutput(tenant=self.tenant, job_id=self.id, attempt_id=self._attempt_id, text=text, at_ms=0)


@pytest.fixture
async def streams(stack: RunningStack) -> AsyncIterator[Streams]:
    async with ClientSession() as session:
        yield Streams(stack, session)


@pytest.fixture
def writer(stack: RunningStack) -> Writer:
    return Writer(stack)


def versions(messages: Sequence[Message]) -> list[int]:
    return [message["version"] for message in messages if message["type"] == "task_state"]


async def test_a_job_is_told_from_its_first_state_to_its_last(streams: Streams, writer: Writer) -> None:
    job, other = Job(), Job()
    async with streams.connect(job.path) as one, streams.connect("/ws/tasks/") as every:
        for ws in (one, every):
            assert [each["type"] for each in await told(ws, 1)] == ["hello"]
        for records in (
            [job.state(1), other.state(1), job.state(2, JobStatus.RUNNING)],
            [job.progress(0.5), job.output("line 1\n"), job.output("line 2\n")],
            [job.state(3, JobStatus.FAILED, reason=EndReason.ERROR, attempts=3, error="ValueError: no rows")],
        ):
            writer.write(*records)
            mine = [each for each in records if each.job_id == job.id]
            messages, of_all = await told(one, len(mine)), await told(every, len(records))
            # A topic's records of one job keep their order.
            assert [each for each in of_all if each["task_id"] == job.id and "version" in each] == [
                {**each, "cursor": of["cursor"]}
                for each, of in zip(messages, [e for e in of_all if e["task_id"] == job.id], strict=True)
                if "version" in each
            ]
            assert [each["type"] for each in messages] == [
                "task_state" if isinstance(each, JobChanged) else
                "task_progress" if isinstance(each, JobProgress) else "task_output"
                for each in mine
            ]  # fmt: skip
        [last] = messages
        assert (last["status"], last["reason"], last["attempts"]) == ("failed", "error", 3)
        assert (last["error"], last["task_type"], last["queue"]) == (
            "ValueError: no rows", "echo", "default",
        )  # fmt: skip
        assert (last["at"], last["wal_id"].split("/")[0]) == ("2026-01-01T00:00:00.003Z", JOB_EVENTS.name)
        for ws in (one, every):
            await silence(ws)


async def test_a_version_that_is_published_twice_is_told_once(streams: Streams, writer: Writer) -> None:
    job = Job()
    async with streams.connect(job.path) as one, streams.connect("/ws/tasks/") as every:
        hello, _ = (await told(one, 1))[0], await told(every, 1)
        writer.write(*(job.state(version) for version in (1, 2, 1, 2, 3)))
        for ws in (one, every):
            assert versions(await told(ws, 3)) == [1, 2, 3]
            await silence(ws)
    async with streams.connect(f"{job.path}?cursor={hello['cursor']}") as again:
        assert versions((await told(again, 4))[1:]) == [1, 2, 3]
        await silence(again)


async def test_two_tenants_see_their_own_jobs(stack: RunningStack, streams: Streams, writer: Writer) -> None:
    """And a record that no process of ours has sealed is shown to nobody."""
    mine = Job()
    theirs = Job("other", mine.id)
    async with more_credentials(stack, streams.session, tenant="other") as others:
        async with (
            others.connect(mine.path) as their_job,
            others.connect("/ws/tasks/") as their_all,
            streams.connect(mine.path) as my_job,
            streams.connect("/ws/tasks/") as my_all,
        ):
            hello = (await told(their_job, 1))[0]
            for ws in (their_all, my_job, my_all):
                await told(ws, 1)
            writer.write(mine.state(1), mine.output("mine\n"))
            for ws in (my_job, my_all):
                assert {each["type"] for each in await told(ws, 2)} == {"task_state", "task_output"}
            for ws in (their_job, their_all):
                await silence(ws)
            writer.write(theirs.state(2), mine.output("forged\n"), sealed=False)
            writer.write(theirs.state(1))
            for ws in (their_job, their_all):
                assert versions(await told(ws, 1)) == [1]
                await silence(ws)
            for ws in (my_job, my_all):
                await silence(ws)
        async with others.connect(f"{mine.path}?cursor={hello['cursor']}") as again:
            assert versions((await told(again, 2))[1:]) == [1]
            await silence(again)


async def test_from_every_cursor_the_rest_of_a_job_comes_once_and_in_order(streams: Streams, writer: Writer) -> None:
    job = Job()
    records = [job.state(1), job.state(2, JobStatus.RUNNING), job.output("1\n"), job.state(3, JobStatus.COMPLETED)]
    for path in (job.path, "/ws/tasks/"):
        async with streams.connect(path) as ws:
            whole = await told(ws, 1)
            for record in records:  # topics keep no order between them, so one after the other
                writer.write(record)
                whole += await told(ws, 1)
        for place, message in enumerate(whole):
            async with streams.connect(f"{path}?cursor={message['cursor']}") as again:
                rest = (await told(again, len(whole) - place))[1:]
            for topic in (JOB_EVENTS.name, JOB_REPORTS.name):
                expected = [each["wal_id"] for each in whole[place + 1 :] if each["wal_id"].startswith(topic)]
                assert [each["wal_id"] for each in rest if each["wal_id"].startswith(topic)] == expected


async def test_all_jobs_go_on_over_all_partitions(streams: Streams, writer: Writer) -> None:
    jobs = [Job() for _ in range(12)]
    async with streams.connect("/ws/tasks/") as ws:
        [hello] = await told(ws, 1)
    for version in (1, 2):
        writer.write(*(job.state(version) for job in jobs))
    async with streams.connect(f"/ws/tasks/?cursor={hello['cursor']}") as ws:
        messages = (await told(ws, 25))[1:]
    for job in jobs:
        assert versions([each for each in messages if each["task_id"] == job.id]) == [1, 2]
    async with streams.connect(f"/ws/tasks/?cursor={messages[11]['cursor']}") as ws:
        rest = (await told(ws, 13))[1:]
    assert {each["wal_id"] for each in rest} == {each["wal_id"] for each in messages[12:]}


async def test_a_slow_reader_of_jobs_is_cut_while_another_goes_on(streams: Streams, writer: Writer) -> None:
    """And holds everything when it comes back."""
    job, count = Job(), 130
    texts = [f"{number} " + "x" * 100_000 for number in range(count)]
    async with streams.connect("/ws/tasks/") as slow, streams.connect(job.path) as quick:
        await told(slow, 1)
        await told(quick, 1)
        protocol = slow._conn.protocol  # type: ignore[union-attr]
        assert protocol is not None
        protocol.pause_reading()
        for text in texts:  # no faster than the other one reads
            await asyncio.to_thread(writer.write, job.output(text))
            assert [each["text"] for each in await told(quick, 1)] == [text]
        protocol.resume_reading()
        messages: list[Message] = []
        while (message := await slow.receive(timeout=TOLD_S)).type is WSMsgType.TEXT:
            messages.append(json.loads(message.data))
        assert (message.type, slow.close_code, messages[-1]["type"]) == (WSMsgType.CLOSE, 4408, "slow_reader")
        assert not quick.closed
    async with streams.connect(f"/ws/tasks/?cursor={messages[-1]['cursor']}") as again:
        _, *rest = await told(again, 1 + count - (len(messages) - 1))
        assert [each["text"] for each in messages[:-1] + rest] == texts


async def test_a_stream_of_jobs_needs_a_key_and_no_foreign_page(streams: Streams) -> None:
    for path in ("/ws/tasks/", Job().path):
        assert await streams.refused(path) == 401
        assert await streams.refused(path, **streams.headers, Origin="https://evil.example") == 403

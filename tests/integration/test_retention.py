"""
Retention on the real stack: what goes, what stays, and what holds it.

What is to be old is made old in the tables and the folder; everything else there is young, and stays.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from moto.s3.models import s3_backends
from psycopg.conninfo import make_conninfo

from deploy.admin import migrate, topics
from deploy.local import settings_file
from deploy.local.development import TENANT
from deploy.local.folders import OBJECTS
from processors.runs.retention import log
from processors.runs.retention.config import MaintenanceSettings
from processors.runs.retention.process import retain_once
from processors.runs.retention.store import LOCK_ID
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint
from processors.runtime.periodic import RunsElsewhere
from schemas.catalogue import CODEC
from schemas.kafka import headers
from schemas.kafka.clients import producer_config
from schemas.objects.references import INLINE_BYTES_MAX, reference_to
from schemas.process import migrations, settings
from schemas.runs import chain
from schemas.runs.endpoints import DEFAULT
from schemas.runs.rules import SEQ_MAX
from schemas.runs.topics import EVALUATION, PERSISTENCE, RUN_EVENTS
from tests.faults.groups import wait_for_every_group
from tests.faults.processes import ROOT, held_down, own_process, paused
from tests.faults.records import write_as_a_gateway
from tests.integration import test_gateway
from tests.integration.test_gateway import new_run
from tests.integration.test_large_payloads import body, payload
from tests.integration.test_receipts import Client, produce
from tests.support import builders
from tests.support.s3 import BUCKET, aws, s3_server
from tests.support.stack import RunningStack, TidegateFailed, tidegate, wait_until

POLICY = "[retention]\nevents_days = 365\nrejected_days = 365\norphans = true\n"
AGE_RUN = "UPDATE runs SET updated_at = updated_at - interval '400 days' WHERE run_id = %s"
AGE_EVENTS = "UPDATE trace_events SET stored_at = stored_at - interval '400 days' WHERE run_id = %s"
AGE_REJECTED = "UPDATE rejected_events SET stored_at = stored_at - interval '400 days' WHERE run_id = %s"
PLACE = "SELECT kafka_partition, min(kafka_offset) FROM trace_events WHERE run_id = %s GROUP BY kafka_partition"
MANY = 600  # more than a page of runs, and so than a transaction
INSERT_MANY = """
    WITH made AS (SELECT %(tenant)s AS tenant, 'run-' || number AS run_id, number FROM generate_series(1, %(count)s) AS number),
    runs AS (
        INSERT INTO runs (tenant_id, run_id, event_count, last_seq, started_at, updated_at)
        SELECT tenant, run_id, 2, 2, now() - interval '400 days', now() - interval '400 days' FROM made
    )
    INSERT INTO trace_events (tenant_id, run_id, seq, t, happened_at, actor, type, agent_id, payload, meta, event_sha256,
        kafka_partition, kafka_offset, received_at, stored_at)
    SELECT tenant, run_id, seq, '2020-01-01T00:00:00Z', now(), 'agent', 'a', 'a', '1', '{}', sha256(run_id::bytea), 0,
        -2 * number - seq, now(), now() - interval '400 days'
    FROM made, generate_series(1, 2) AS seq
"""  # noqa: E501


@dataclass
class Retained:
    """A stack whose tenant keeps things for a year."""

    stack: RunningStack
    database: psycopg.Connection[Any]
    policy: Path
    told: Mapping[str, str]

    def plan(self) -> dict[str, Any]:
        return self._pass(dry_run=True)

    def run(self, **more: str) -> dict[str, Any]:
        return self._pass(dry_run=False, **more)

    def _pass(self, *, dry_run: bool, **more: str) -> dict[str, Any]:
        """Return a pass as the process carries it out, without a process for each."""
        config = settings.load(MaintenanceSettings, {**self._settings, **self.told, **more})
        report = asyncio.run(retain_once(config, dry_run=dry_run))
        return dict(msgspec.json.decode(msgspec.json.encode(report)))

    def command(self, *words: str, **more: str) -> dict[str, Any]:
        """Return the same through the command that an operator gives."""
        printed = self.stack.command("retention", *words, "--json", environ=os.environ | self.told | more)
        return dict(json.loads(printed))

    @property
    def _settings(self) -> Mapping[str, str]:
        settings = settings_file.read(self.stack.folder)
        assert settings
        return settings["maintenance"]

    def mutated(self, variant: str) -> dict[str, Any]:
        """Return a pass of the product with one thing changed."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.variants", variant, "processors", "maintenance", "--once"],
            cwd=ROOT,
            env={**os.environ, **self._settings, **self.told},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return dict(json.loads(done.stdout))

    def age(self, run_id: str) -> None:
        for statement in (AGE_RUN, AGE_EVENTS, AGE_REJECTED):
            self.database.execute(statement, (run_id,))
        for path in self.objects(run_id):
            age_file(path)

    def objects(self, run_id: str) -> list[Path]:
        folder = self.stack.folder / OBJECTS / TENANT / run_id
        return sorted(folder.iterdir()) if folder.exists() else []

    def stored(self, run_id: str) -> int:
        row = self.database.execute("SELECT count(*) FROM trace_events WHERE run_id = %s", (run_id,)).fetchone()
        assert row is not None
        return int(row[0])

    def place(self, run_id: str) -> tuple[int, int]:
        row = self.database.execute(PLACE, (run_id,)).fetchone()
        assert row is not None
        return row[0], row[1]


def age_file(path: Path) -> None:
    moment_s = path.stat().st_mtime - 25 * 3600
    os.utime(path, (moment_s, moment_s))


@pytest.fixture
def retained(
    stack: RunningStack, database: psycopg.Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Retained:
    monkeypatch.setattr(log, "CATCH_UP_S", 2.0)
    policy = tmp_path / "retention.toml"
    policy.write_text(POLICY)
    return Retained(stack, database, policy, {"TIDEGATE_RETENTION": str(policy)})


@pytest.fixture
def client(stack: RunningStack) -> Client:
    return Client(stack)


def make_run(stack: RunningStack, *, large: bool = False, finalized: bool = True, but: str = "") -> str:
    """
    Return a run of three events, one of them signed, and with *large* a fourth in object storage.

    Every group has passed it, but the one of that name.
    """
    client, run_id = Client(stack), new_run()
    client.send(builders.event(1, run_id=run_id))
    client.send(builders.signed(builders.event(2, run_id=run_id), secret=stack.addresses.agent_secret))
    if large:
        sent = body(run_id, 3, payload(INLINE_BYTES_MAX + 1)).encode()
        assert test_gateway.Client(stack).ask("POST", f"/api/runs/{run_id}/events", sent)[0] == 202
    client.send(builders.event(3 + large, run_id=run_id), "?wait=persistence")
    if finalized:
        finalize(client, run_id, 3 + large)
    wait_for_every_group(stack, but=but)
    return run_id


def finalize(client: Client, run_id: str, count: int) -> None:
    path = f"/api/runs/{run_id}/finalize?wait=persistence"
    assert client.ask("POST", path, {"status": "succeeded", "event_count": count})[1]["waited"] is True


def of_tenant(report: Mapping[str, Any]) -> dict[str, int]:
    gone: dict[str, int] = report["tenants"].get(TENANT, {})
    return {name: gone.get(name, 0) for name in ("runs", "events", "rejected", "objects")}


NOTHING = {"runs": 0, "events": 0, "rejected": 0, "objects": 0}


def test_what_is_planned_goes_and_nothing_else(
    stack: RunningStack, retained: Retained, client: Client, tmp_path: Path
) -> None:
    """A run goes whole; its row, its trace record and what proves its exports stay, and every reader says so."""
    old, still_open, young = make_run(stack, large=True), make_run(stack, finalized=False), make_run(stack, large=True)
    late = builders.run_event(builders.event(9, run_id=old))
    (place,) = write_as_a_gateway(stack, (late, 9))
    assert client.settled(place)["outcome"] == "rejected"
    export = tmp_path / "run.jsonl"
    stack.command("run", "export", old, "-o", str(export))
    trace, before = (client.ask("GET", f"/api/runs/{old}/{each}")[1] for each in ("trace", "integrity"))
    for run_id in (old, still_open):
        retained.age(run_id)
    planned = retained.command("plan")
    assert planned["dry_run"]
    assert of_tenant(planned) == {"runs": 2, "events": 7, "rejected": 1, "objects": 1}
    assert planned["tenants"][TENANT]["bytes"] > INLINE_BYTES_MAX
    assert (retained.stored(old), len(retained.objects(old))) == (4, 1), "a plan removes nothing"

    assert retained.command("run", "--yes") == planned | {"dry_run": False}
    assert of_tenant(retained.run()) == NOTHING
    assert [retained.stored(each) for each in (old, still_open, young)] == [0, 0, 4]
    assert (retained.objects(old), len(retained.objects(young))) == ([], 1)

    assert client.ask("GET", f"/api/runs/{old}/trace")[1] == trace
    shown = client.ask("GET", f"/api/runs/{old}/integrity")[1]
    assert (shown["complete"], shown["missing"]["count"], shown["chain_head"]) == (True, 0, before["chain_head"])
    assert (shown["event_count"], shown["removed"]["event_count"]) == (0, 4)
    page = client.ask("GET", f"/api/runs/{old}/events")[1]
    assert (page["events"], page["events_removed_at"]) == ([], shown["removed"]["at"])
    listed = client.ask("GET", f"/api/runs/{old}")[1]
    assert (listed["status"], listed["event_count"], listed["events_removed_count"]) == ("succeeded", 0, 4)
    with pytest.raises(TidegateFailed, match="retention removed 4"):
        stack.command("run", "export", old, "-o", str(tmp_path / "later.jsonl"))
    assert "events removed" in stack.command("run", "show", old)
    tidegate("run", "verify", str(export), "--head", shown["chain_head"])
    assert client.ask("GET", f"/api/runs/{still_open}/integrity")[1]["chain_head"] is not None
    assert "events_removed_at" not in client.ask("GET", f"/api/runs/{young}/events")[1]


def test_a_replay_brings_a_removed_run_back(stack: RunningStack, retained: Retained, client: Client) -> None:
    """And its trace record never speaks of half of it."""
    run_id = make_run(stack)
    trace = client.ask("GET", f"/api/runs/{run_id}/trace")[1]
    retained.age(run_id)
    assert of_tenant(retained.run())["runs"] == 1
    stack.command("replay", "persistence", "--run", run_id, "--yes", environ=os.environ)
    assert retained.stored(run_id) == 3
    shown = client.ask("GET", f"/api/runs/{run_id}/integrity")[1]
    assert (shown["complete"], shown["removed"], shown["event_count"]) == (True, None, 3)
    again = client.ask("GET", f"/api/runs/{run_id}/trace")[1]
    assert again["chain_head"] == trace["chain_head"]
    assert of_tenant(retained.plan())["runs"] == 0, "what was brought back is kept for as long again"
    retained.age(run_id)
    assert of_tenant(retained.run())["events"] == 3


def test_a_run_that_is_closed_behind_its_removal_is_not_told_as_one_without_events(
    stack: RunningStack, retained: Retained, client: Client
) -> None:
    run_id = make_run(stack, finalized=False)
    retained.age(run_id)
    assert of_tenant(retained.run())["runs"] == 1
    finalize(client, run_id, 3)
    trace = client.ask("GET", f"/api/runs/{run_id}/trace")[1]
    assert (trace["events_removed"]["count"], trace["complete"]) == (3, False)
    assert (trace["events_removed"]["ranges"], trace["missing"]["count"]) == ([[1, 3]], 0)
    assert trace["chain_head"] == trace["events_removed"]["chain_head"]


def test_events_that_come_behind_a_removal_do_not_hide_it_and_go_on_with_its_chain(
    stack: RunningStack, retained: Retained, client: Client, tmp_path: Path
) -> None:
    """More events than were removed came, and the mark was gone; the exports from before could not be verified."""
    run_id, export = make_run(stack, finalized=False), tmp_path / "run.jsonl"
    stack.command("run", "export", run_id, "-o", str(export))
    links = chained(client, run_id)
    retained.age(run_id)
    assert of_tenant(retained.run())["events"] == 3
    for seq in range(4, 9):
        client.send(builders.event(seq, run_id=run_id), "?wait=persistence")
    removed = client.ask("GET", f"/api/runs/{run_id}/integrity")[1]["removed"]
    assert (removed["event_count"], removed["ranges"]) == (3, [[1, 3]])
    page = client.ask("GET", f"/api/runs/{run_id}/events")[1]
    assert (len(page["events"]), page["events_removed_at"]) == (5, removed["at"])
    links += chained(client, run_id)
    finalize(client, run_id, 8)

    trace, shown = (client.ask("GET", f"/api/runs/{run_id}/{each}")[1] for each in ("trace", "integrity"))
    head = chain.head(links).hex()
    assert (trace["chain_head"], shown["chain_head"]) == (head, head), "as if nothing had been removed"
    assert (trace["events_removed"]["ranges"], trace["complete"]) == ([[1, 3]], False)
    assert (shown["removed"], shown["missing"]["count"]) == (removed, 0)
    [removal] = removed["removals"]
    assert (removal["event_count"], removal["chain_head"]) == (3, chain.head(links[:3]).hex())
    tidegate("run", "verify", str(export), "--head", removal["chain_head"])
    assert json.loads(stack.command("run", "show", run_id, "--json"))["integrity"]["removed"] == removed
    with pytest.raises(TidegateFailed, match=r"retention removed 3 of its events.*5 are stored"):
        stack.command("run", "export", run_id, "-o", str(tmp_path / "later.jsonl"))

    stack.command("replay", "persistence", "--run", run_id, "--overwrite", "--yes")
    trace, shown = (client.ask("GET", f"/api/runs/{run_id}/{each}")[1] for each in ("trace", "integrity"))
    assert (trace["chain_head"], trace["complete"], "events_removed" in trace) == (head, True, False)
    assert (shown["complete"], shown["removed"], shown["event_count"]) == (True, None, 8)
    stack.command("run", "export", run_id, "-o", str(export))
    tidegate("run", "verify", str(export), "--head", head)


def test_each_removal_of_a_run_keeps_its_head_and_gaps_are_no_removal(
    stack: RunningStack, retained: Retained, client: Client
) -> None:
    run_id = make_run(stack, finalized=False)
    heads, links = [], []
    for seqs in ((), (5, 6), (9, SEQ_MAX)):
        for seq in seqs:
            event = builders.signed(builders.event(seq, run_id=run_id), secret=stack.addresses.agent_secret)
            place = produce(stack, CODEC.encode(builders.run_event(event)), [], key=run_id.encode())
            assert client.settled(place)["outcome"] == "stored"
        links += chained(client, run_id)
        heads.append(chain.head(links).hex())
        retained.age(run_id)
        assert of_tenant(retained.run())["runs"] == 1
    shown = client.ask("GET", f"/api/runs/{run_id}/integrity")[1]
    assert shown["removed"]["ranges"] == [[1, 3], [5, 6], [9, 9], [SEQ_MAX, SEQ_MAX]]
    assert [each["chain_head"] for each in shown["removed"]["removals"]] == heads[::-1]
    assert shown["missing"] == {
        "count": 1 + 2 + SEQ_MAX - 10,
        "range_count": 3,
        "ranges": [[4, 4], [7, 8], [10, SEQ_MAX - 1]],
    }
    finalize(client, run_id, 7)
    trace = client.ask("GET", f"/api/runs/{run_id}/trace")[1]
    assert (trace["missing"]["ranges"], trace["chain_head"]) == (shown["missing"]["ranges"], heads[-1])


BEFORE = r"""
    INSERT INTO runs (tenant_id, run_id, status, event_count, last_seq, started_at, updated_at, events_removed_at,
        events_removed_count, events_removed_chain_head)
    VALUES ('demo', 'open', 'open', 0, 3, now(), now(), now(), 3, '\x01'),
        ('demo', 'closed', 'failed', 0, 6, now(), now(), now(), 4, NULL),
        ('demo', 'half back', 'open', 1, 3, now(), now(), now(), 3, '\x02'),
        ('demo', 'back', 'open', 3, 3, now(), now(), now(), 3, '\x03'),
        ('demo', 'untouched', 'open', 3, 3, now(), now(), NULL, 0, NULL);
    INSERT INTO trace_records
    VALUES ('demo', 'closed', 'failed', 4, '\x04', '{"missing": {"count": 2, "ranges": [[3, 4]]}}', 0, 1, now());
    INSERT INTO trace_events
    SELECT 'demo', 'half back', 2, NULL, '', now(), '', '', '', '1', NULL, '{}', '', 0, 1, now();
"""
AFTER = """
    SELECT run_id, events_removed_seqs::text, events_removed_count, encode(chain_head, 'hex')
    FROM runs LEFT JOIN event_removals USING (tenant_id, run_id) ORDER BY run_id
"""


def test_of_removals_from_before_their_seqs_were_kept_the_migration_says_what_is_known(stack: RunningStack) -> None:
    """All seqs up to the last, but for those that are stored and those that the trace record lists as missing."""
    owner, name = stack.addresses.postgres, f"before_{token_hex(4)}"
    dsn = make_conninfo(owner, dbname=name)
    steps = migrations.migrations()
    with psycopg.connect(owner, autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}".encode())
        try:
            migrate.apply(dsn, tuple(step for step in steps if step.slug != "removed_events"))
            with psycopg.connect(dsn) as tables:
                tables.execute(BEFORE.encode())
            migrate.apply(dsn)
            with psycopg.connect(dsn) as tables:
                assert tables.execute(AFTER).fetchall() == [
                    ("back", "{}", 0, None),
                    ("closed", "{[1,3),[5,7)}", 4, "04"),
                    ("half back", "{[1,2),[3,4)}", 2, "02"),
                    ("open", "{[1,4)}", 3, "01"),
                    ("untouched", "{}", 0, None),
                ]
        finally:
            session.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def chained(client: Client, run_id: str) -> list[tuple[int, bytes]]:
    """Return the stored events, as the chain takes them."""
    page = client.ask("GET", f"/api/runs/{run_id}/events")[1]
    return [(each["seq"], bytes.fromhex(each["event_sha256"])) for each in page["events"]]


@contextmanager
def group_behind(stack: RunningStack, partition: int, offset: int) -> Iterator[None]:
    """Hold persistence as if it had not come past that place: down, and committed up to there."""
    kafka = stack.kafka
    with held_down(stack, "persistence"):
        before = topics.committed(kafka, PERSISTENCE, RUN_EVENTS)
        topics.commit(kafka, PERSISTENCE, [TopicPartition(RUN_EVENTS.name, partition, offset)])
        try:
            yield
        finally:
            topics.commit(kafka, PERSISTENCE, before)


def test_nothing_goes_that_a_group_has_yet_to_pass(stack: RunningStack, retained: Retained) -> None:
    run_id = make_run(stack, large=True)
    retained.age(run_id)
    partition, first = retained.place(run_id)
    with group_behind(stack, partition, first + 3):
        for report in (retained.plan(), retained.run()):
            assert of_tenant(report) == NOTHING
            assert report["held_runs"] == 1, "it is held as a whole, though the group has passed most of it"
            assert "a group has not passed" in report["held_objects"]
        assert (retained.stored(run_id), len(retained.objects(run_id))) == (4, 1)
        assert of_tenant(retained.mutated("retention_without_offsets"))["runs"] == 1, "the check is what held it"
    assert retained.stored(run_id) == 0


def test_an_endpoint_that_has_yet_to_be_told_holds_too(stack: RunningStack, retained: Retained) -> None:
    """The groups are those that the cluster has, not those that the code names."""
    with held_down(stack, "evaluation"):
        run_id = make_run(stack, but=EVALUATION.group(DEFAULT).name)
        retained.age(run_id)
        report = retained.run()
        assert (of_tenant(report), report["held_runs"]) == (NOTHING, 1)
    wait_until(lambda: of_tenant(retained.run())["runs"] == 1, timeout_s=60, what="the endpoint to be told")


def test_a_record_that_waits_to_be_handled_once_more_holds_its_run(stack: RunningStack, retained: Retained) -> None:
    run_id = make_run(stack)
    retained.age(run_id)
    partition, first = retained.place(run_id)
    sent = builders.signed(builders.event(2, run_id=run_id), secret=stack.addresses.agent_secret)
    with held_down(stack, "persistence"):
        letter(stack, PERSISTENCE.redrive.name, sent, origin_of(partition, first + 1))
        report = retained.run()
        assert (of_tenant(report), report["held_runs"]) == (NOTHING, 1)
    wait_until(lambda: of_tenant(retained.run())["runs"] == 1, timeout_s=30, what="the group to pass it")
    assert retained.stored(run_id) == 0


def origin_of(partition: int, offset: int) -> dict[str, object]:
    """Return what a letter says of the place that it had."""
    return {
        headers.ORIGINAL_TOPIC: RUN_EVENTS.name,
        headers.ORIGINAL_PARTITION: partition,
        headers.ORIGINAL_OFFSET: offset,
    }


def letter(
    stack: RunningStack, topic: str, event: dict[str, Any], by_name: Mapping[str, object], **changes: Any
) -> None:
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    producer.produce(
        topic,
        CODEC.encode(builders.run_event(event, **changes)),
        event["meta"]["run_id"],
        headers=[(name, str(value)) for name, value in by_name.items()],
    )
    assert producer.flush(30) == 0


def test_while_kafka_or_object_storage_is_away_nothing_goes(
    stack: RunningStack, retained: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = make_run(stack)
    retained.age(run_id)
    with paused([stack.process("kafka").pid]), pytest.raises(Transient, match="Kafka does not tell"):
        retained.run()
    assert retained.stored(run_id) == 3
    for name, value in aws(9).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Transient, match="object storage is away"):
        retained.run(TIDEGATE_OBJECTS="s3://nowhere")
    assert of_tenant(retained.run()) == NOTHING, "the run went before, and nothing is done twice"
    assert retained.stored(run_id) == 0


def test_an_object_stays_while_anything_refers_to_it(stack: RunningStack, retained: Retained, client: Client) -> None:
    """Another run, a record that was rejected, a dead letter; and one that nothing refers to goes."""
    removed, kept = make_run(stack, large=True), make_run(stack)
    [shared] = retained.objects(removed)
    refer = """
        UPDATE trace_events AS mine SET payload = NULL, payload_ref = theirs.payload_ref
        FROM trace_events AS theirs
        WHERE mine.run_id = %s AND mine.seq = 1 AND theirs.run_id = %s AND theirs.payload_ref IS NOT NULL
    """
    retained.database.execute(refer, (kept, removed))
    orphan, young, rejected, dead = (put(retained, kept, each) for each in (b"orphan", b"young", b"rejected", b"dead"))
    for path in (orphan, rejected, dead):
        age_file(path)
    late = referring(builders.event(9, run_id=kept), b"rejected")
    (place,) = write_as_a_gateway(stack, (late, 9))
    assert client.settled(place)["outcome"] == "rejected"
    of_letter = builders.event(10, run_id=kept)
    reference = {"payload": None, "payload_ref": reference_to(b"dead", tenant=TENANT, run_id=kept)}
    partition, offset = retained.place(kept)
    why = {headers.ERROR_CLASS: "not_storable", headers.ERROR_MESSAGE: "made up", headers.ATTEMPT: 1}
    letter(stack, PERSISTENCE.dead_letters.name, of_letter, origin_of(partition, offset) | why, **reference)
    retained.age(removed)

    planned = retained.plan()
    assert of_tenant(planned) == {"runs": 1, "events": 4, "rejected": 0, "objects": 1}
    assert retained.run() == planned | {"dry_run": False}
    assert shared.exists()
    assert [path.exists() for path in (orphan, young, rejected, dead)] == [False, True, True, True]
    retained.database.execute(AGE_RUN, (kept,))
    retained.database.execute(AGE_EVENTS, (kept,))
    assert of_tenant(retained.run()) == {"runs": 1, "events": 3, "rejected": 0, "objects": 1}
    assert not shared.exists()
    retained.database.execute(AGE_REJECTED, (kept,))
    planned = retained.plan()
    assert of_tenant(planned) == NOTHING | {"rejected": 1, "objects": 1}
    assert retained.run() == planned | {"dry_run": False}
    assert of_tenant(retained.mutated("retention_without_references"))["objects"] == 1, "the check is what kept it"
    assert not dead.exists()
    assert young.exists()


def put(retained: Retained, run_id: str, content: bytes) -> Path:
    """Return an object of the run, as an upload leaves it."""
    path = retained.stack.folder / OBJECTS / reference_to(content, tenant=TENANT, run_id=run_id).key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def referring(event: dict[str, Any], content: bytes) -> Any:
    reference = reference_to(content, tenant=TENANT, run_id=event["meta"]["run_id"])
    return msgspec.structs.replace(builders.run_event(event), payload=None, payload_ref=reference)


def test_in_a_bucket_as_in_a_folder(retained: Retained, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = new_run()
    keys = [reference_to(content, tenant=TENANT, run_id=run_id).key for content in (b"old", b"young")]
    with s3_server() as port:
        bucket = s3_backends["123456789012"]["aws"].buckets[BUCKET]
        backend = s3_backends["123456789012"]["aws"]
        for key in keys:
            backend.put_object(BUCKET, f"some/prefix/{key}", b"content")
        old = bucket.keys[f"some/prefix/{keys[0]}"]
        old.last_modified = old.last_modified.replace(year=old.last_modified.year - 1)
        for name, value in aws(port).items():
            monkeypatch.setenv(name, value)
        assert of_tenant(retained.run(TIDEGATE_OBJECTS=f"s3://{BUCKET}/some/prefix")) == NOTHING | {"objects": 1}
        assert list(bucket.keys) == [f"some/prefix/{keys[1]}"]


def test_a_pass_that_is_killed_leaves_runs_whole_or_removed_and_the_next_one_goes_on(retained: Retained) -> None:
    tenant = f"many-{token_hex(4)}"
    retained.database.execute(INSERT_MANY, {"tenant": tenant, "count": MANY})
    with pytest.raises(TidegateFailed, match="137"):
        retained.command("run", "--yes", TIDEGATE_FAILPOINT=f"{Failpoint.BEFORE_COMMIT}:2")
    states = """
        SELECT event_count, events_removed_count, events_removed_at IS NOT NULL,
            (SELECT count(*) FROM trace_events AS event
             WHERE event.tenant_id = runs.tenant_id AND event.run_id = runs.run_id), count(*)
        FROM runs WHERE tenant_id = %s GROUP BY 1, 2, 3, 4 ORDER BY 1
    """
    removed, whole = retained.database.execute(states, (tenant,)).fetchall()
    assert removed[:4] == (0, 2, True, 0)
    assert whole[:4] == (2, 0, False, 2)
    assert removed[4] + whole[4] == MANY
    left = retained.run()["tenants"][tenant]
    assert (left["runs"], left["events"]) == (whole[4], 2 * whole[4])
    assert retained.database.execute(states, (tenant,)).fetchall() == [(0, 2, True, 0, MANY)]


def test_what_one_writes_to_is_passed_by_and_two_passes_do_not_meet(stack: RunningStack, retained: Retained) -> None:
    run_id = make_run(stack)
    retained.age(run_id)
    with psycopg.connect(stack.addresses.postgres) as writer:
        writer.execute("SELECT FROM runs WHERE run_id = %s FOR UPDATE", (run_id,))
        assert of_tenant(retained.run()) == NOTHING
        writer.execute("SELECT pg_advisory_lock(%s)", (LOCK_ID,))
        with pytest.raises(RunsElsewhere):
            retained.run()
    assert of_tenant(retained.run())["runs"] == 1


def test_the_process_does_it_by_itself_gives_idle_runs_up_and_ends_at_once(
    stack: RunningStack, retained: Retained, client: Client, tmp_path: Path
) -> None:
    old, idle = make_run(stack), make_run(stack, finalized=False)
    retained.age(old)
    back = "interval '2 hours'"
    retained.database.execute(f"UPDATE runs SET updated_at = updated_at - {back} WHERE run_id = %s", (idle,))
    retained.database.execute(f"UPDATE trace_events SET stored_at = stored_at - {back} WHERE run_id = %s", (idle,))
    told = {**retained.told, "TIDEGATE_MAINTENANCE_PERIOD_S": "1", "TIDEGATE_RUN_IDLE_S": "3600"}
    with own_process(stack, tmp_path, "maintenance", environ=told) as process:
        process.wait_ready()
        status: Callable[[], str] = lambda: client.ask("GET", f"/api/runs/{idle}")[1]["status"]  # noqa: E731
        wait_until(lambda: retained.stored(old) == 0, timeout_s=30, what="the pass")
        wait_until(lambda: status() == "abandoned", timeout_s=60, what="the idle run to be given up")
        assert retained.stored(idle) == 3
        assert process.metric("tidegate_retention_removed_total", what="runs") >= 1
        assert process.metric("tidegate_runs_abandoned_total") >= 1
        retained.policy.write_text("no toml")
        wait_until(lambda: "cannot be used" in process.log, timeout_s=30, what="the broken file to be told")
        process.kill(15)
        assert process.wait_end(5) == 0
    client.send(builders.event(4, run_id=idle), "?wait=persistence")
    assert status() == "open"

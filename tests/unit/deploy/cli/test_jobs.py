"""`tidegate jobs` against a gateway that answers what a test tells it to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from typer.testing import CliRunner

from deploy.admin.gateway import GatewayCalls, Refused
from deploy.admin.tasks import Tasks
from deploy.cli import job_watching
from deploy.cli.addresses import Addresses
from deploy.cli.app import build
from deploy.cli.job_watching import follow, lines, wait
from deploy.errors import CommandFailed, NotReachable
from tests.unit.deploy.cli.conftest import Command, Gateway, problem

ID = "0192f3a0-0000-7000-8000-000000000001"
JOB = {
    "task_id": ID,
    "type": "echo",
    "queue": "default",
    "status": "completed",
    "reason": None,
    "error": None,
    "priority": 5,
    "created_at": "2026-01-01T12:00:00Z",
    "attempts": 0,
    "attempt_history": [],
    "result": {"value": 1},
}
ACCEPTED = {"task_id": ID, "type": "echo", "queue": "default", "status": "pending"}
SCHEDULE = {
    "schedule_id": "0192f3a0-0000-7000-8000-000000000002",
    "name": "nightly",
    "definition": {"name": "nightly", "cron": "30 2 * * *", "type": "echo", "parameters": {"value": 1}},
    "paused_at": None,
    "next_at": "2026-01-02T02:30:00Z",
    "next_times": ["2026-01-02T02:30:00Z"],
    "last_fired_at": None,
    "last_task_id": None,
    "created_by": "key",
}
QUEUE = {
    "queue": "default",
    "paused": False,
    "pause_reason": None,
    "max_running": 3,
    "max_running_per_tenant": None,
    "step_s": 60.0,
    "ready": 7,
    "delayed": 0,
    "running": 2,
    "oldest_ready_s": 12.5,
    "executors": 1,
}
ECHO_TYPE = {
    "type": "echo",
    "queue": "default",
    "right": "ingest",
    "description": "Return a value",
    "schema": {
        "properties": {
            "value": {},
            "delay_s": {"type": "number"},
            "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        }
    },
}
APPLIED = {"target": "default", "wal_id": "jobs.commands/1/2", "applied": True}


class TestSubmitting:
    def test_what_is_given_is_sent_and_nothing_else(self, gateway: Gateway, command: Command) -> None:
        gateway.answer("POST /api/tasks", (202, ACCEPTED))
        said = command("jobs", "submit", "echo", "--tag", "a", "--tag", "b", "--delay", "90", "-p", '{"value": 1}')
        assert said == f"job {ID} (echo, queue default) is in the log\n"
        [(_, body, headers)] = gateway.asked
        assert body == {"type": "echo", "parameters": {"value": 1}, "delay_s": 90.0, "tags": ["a", "b"]}
        assert headers["X-API-Key"] == "tg_key"

    def test_every_option_has_its_field(self, gateway: Gateway, command: Command) -> None:
        gateway.answer("POST /api/tasks", (202, ACCEPTED))
        command(
            *("jobs", "submit", "echo", "--queue", "q", "--priority", "9", "--run-at", "2026-01-01T00:00:00Z"),
            *("--expires-at", "2026-01-02T00:00:00Z", "--dedupe-key", "d", "--max-attempts", "2", "--timeout", "5"),
            *("--metadata", '{"a": 1}', "--user", "u", "--json"),
        )
        assert gateway.sent("POST /api/tasks") == [
            {
                "type": "echo",
                "parameters": {},
                "queue": "q",
                "priority": 9,
                "run_at": "2026-01-01T00:00:00Z",
                "expires_at": "2026-01-02T00:00:00Z",
                "dedupe_key": "d",
                "max_attempts": 2,
                "timeout_s": 5.0,
                "metadata": {"a": 1},
                "user_id": "u",
            }
        ]

    def test_an_attempt_that_had_no_answer_is_repeated_under_the_same_key(
        self, gateway: Gateway, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deploy.admin.gateway.PAUSE_S", 0.0)
        gateway.answer("POST /api/tasks", problem(503, "LOG_UNAVAILABLE", "away"), (202, ACCEPTED))
        command("jobs", "submit", "echo")
        keys = [headers["Idempotency-Key"] for _, _, headers in gateway.asked]
        assert len(keys) == 2
        assert len(set(keys)) == 1
        command("jobs", "submit", "echo", "--idempotency-key", "mine")
        assert gateway.asked[-1][2]["Idempotency-Key"] == "mine"

    def test_parameters_come_from_a_file_or_from_stdin(
        self, gateway: Gateway, command: Command, tmp_path: Path
    ) -> None:
        gateway.answer("POST /api/tasks", (202, ACCEPTED))
        (tmp_path / "given.json").write_text('{"value": "file"}')
        command("jobs", "submit", "echo", "-p", f"@{tmp_path / 'given.json'}")
        command("jobs", "submit", "echo", "-p", "@-", answer='{"value": "stdin"}')
        assert [each["parameters"]["value"] for each in gateway.sent("POST /api/tasks")] == ["file", "stdin"]

    @pytest.mark.parametrize("option", ["--parameters", "--metadata"])
    def test_what_is_no_json_is_a_usage_error(self, gateway: Gateway, option: str) -> None:
        done = CliRunner().invoke(build(), ["jobs", "submit", "echo", option, "{"])
        assert done.exit_code == 2
        assert f"{option} is no JSON" in done.output
        assert gateway.asked == []

    def test_a_missing_file_is_named(self, gateway: Gateway, command: Command) -> None:
        assert gateway
        with pytest.raises(CommandFailed, match="--parameters: /nowhere/x: No such file"):
            command("jobs", "submit", "echo", "-p", "@/nowhere/x")

    def test_every_fault_is_shown(self, gateway: Gateway, command: Command) -> None:
        faults = (("/parameters/value", "is required"), ("/queue", "no queue 'x'"))
        gateway.answer("POST /api/tasks", problem(400, "BAD_PARAMETERS", "2 faults", *faults))
        with pytest.raises(Refused, match=r"BAD_PARAMETERS: 2 faults; /parameters/value: is required; /queue: no"):
            command("jobs", "submit", "echo")

    def test_a_duplicate_is_said_to_be_one(self, gateway: Gateway, command: Command) -> None:
        gateway.answer("POST /api/tasks", ACCEPTED | {"duplicate": True})
        assert "is there already" in command("jobs", "submit", "echo")

    def test_waiting_ends_with_the_job_and_fails_with_it(self, gateway: Gateway, command: Command) -> None:
        gateway.answer("POST /api/tasks", (202, ACCEPTED))
        gateway.answer(f"GET /api/tasks/status/{ID}", JOB | {"status": "running", "progress": None}, JOB)
        assert json.loads(command("jobs", "submit", "echo", "--wait", "--json")) == JOB
        gateway.answer(f"GET /api/tasks/status/{ID}", JOB | {"status": "failed", "error": "no rows"})
        with pytest.raises(CommandFailed, match="the job is failed: no rows"):
            command("jobs", "submit", "echo", "--wait")

    def test_a_gateway_that_is_away_is_not_reachable(
        self, folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert folder
        with pytest.raises(NotReachable, match="no stack runs in"):
            command("jobs", "submit", "echo")
        monkeypatch.setenv("TIDEGATE_GATEWAY", "http://127.0.0.1:1")
        monkeypatch.setenv("TIDEGATE_API_KEY", "tg_key")
        with pytest.raises(NotReachable, match=r"no gateway answers at 127\.0\.0\.1"):
            command("jobs", "submit", "echo")


def test_waiting_asks_ever_more_rarely(gateway: Gateway) -> None:
    paused: list[float] = []
    running = JOB | {"status": "running"}
    gateway.answer(f"GET /api/tasks/status/{ID}", *[running] * 8, JOB)
    assert wait(Tasks(GatewayCalls(gateway.url, api_key="x")), ID, shown=False, sleep=paused.append) == JOB
    assert paused == sorted(paused)
    assert (paused[0], paused[-1]) == (job_watching.POLL_FIRST_S, job_watching.POLL_MAX_S)


class TestShowing:
    def test_a_list_goes_over_pages_and_stops(self, gateway: Gateway, command: Command) -> None:
        page = {"tasks": [JOB] * 3, "next_cursor": "c"}
        gateway.answer("GET /api/tasks/list", page)
        asked = ("jobs", "list", "--status", "failed", "--metadata", "a=1", "--count", "5")
        assert len(json.loads(command(*asked, "--json"))) == 5
        assert gateway.asked[0][0] == "GET /api/tasks/list?status=failed&metadata=a%3D1&limit=5"
        assert gateway.asked[1][0].endswith("&cursor=c")
        assert command(*asked).splitlines()[1].split()[2:6] == [ID, "echo", "default", "5"]
        assert command(*asked, "--ids").splitlines() == [ID] * 5

    def test_a_job_is_shown_with_its_attempts(self, gateway: Gateway, command: Command) -> None:
        attempts = [
            {"number": 2, "outcome": "completed", "started_at": "2026-01-01T12:00:09Z", "duration_s": 0.5}
            | {"error": None, "reason": None},
            {"number": 1, "outcome": "failed", "started_at": None, "duration_s": None, "reason": "error"}
            | {"error": "no rows \x1b[31m"},
        ]
        gateway.answer(f"GET /api/tasks/status/{ID}", JOB | {"attempt_history": attempts, "tags": [], "lost": 0})
        said = command("jobs", "show", ID)
        assert '{"value":1}' in said
        assert "tags" not in said
        assert "\x1b" not in said
        assert said.index("no rows") < said.index("0.50 s")

    def test_a_job_that_intake_has_not_come_to_is_said_to_be_that(self, gateway: Gateway, command: Command) -> None:
        hidden = {"task_id": ID, "status": "pending", "visible": False, "links": {}}
        gateway.answer(f"GET /api/tasks/status/{ID}", hidden)
        assert "intake has not come to it" in command("jobs", "show", ID)

    @pytest.mark.parametrize("arguments", [("show", ID), ("logs", ID), ("operations", "show", ID)])
    def test_what_is_not_there_is_said(self, gateway: Gateway, command: Command, arguments: tuple[str, ...]) -> None:
        for path in ("status", "logs", "operations"):
            gateway.answer(f"GET /api/tasks/{path}/{ID}", problem(404, "NOT_FOUND", "no such thing"))
        with pytest.raises(CommandFailed, match=rf"has no (job|operation) {ID}|no log: no such thing"):
            command("jobs", *arguments)

    def test_a_log_cannot_steer_the_terminal(self, gateway: Gateway, command: Command) -> None:
        gateway.answer(f"GET /api/tasks/logs/{ID}", {"task_id": ID, "attempt": 3, "log": "one\x1b[2J\ntwo\tcells\n"})
        assert command("jobs", "logs", ID, "--attempt", "3") == "one\\u001b[2J\ntwo     cells\n"
        assert gateway.asked[0][0].endswith("?attempt=3")

    def test_types_are_listed_and_one_is_shown_with_its_schema(self, gateway: Gateway, command: Command) -> None:
        gateway.answer("GET /api/tasks/types", {"types": [ECHO_TYPE]})
        assert command("jobs", "types").splitlines()[1].split()[:3] == ["echo", "default", "ingest"]
        assert json.loads(command("jobs", "types", "echo")) == ECHO_TYPE["schema"]
        with pytest.raises(CommandFailed, match="there is no task type ecko"):
            command("jobs", "types", "ecko")


class TestChanging:
    @pytest.mark.parametrize(
        ("asked", "status", "said"),
        [
            (f"DELETE /api/tasks/{ID}", "cancel_requested", "is being cancelled"),
            (f"DELETE /api/tasks/{ID}", "cancelled", "is cancelled"),
            (f"POST /api/tasks/{ID}/retry", "pending", "is pending"),
        ],
    )
    def test_a_job_is_changed(self, gateway: Gateway, command: Command, asked: str, status: str, said: str) -> None:
        gateway.answer(asked, {"task_id": ID, "status": status, "wal_id": "jobs.commands/0/1"})
        assert command("jobs", "retry" if asked.endswith("retry") else "cancel", ID) == f"job {ID} {said}\n"

    def test_a_state_that_forbids_it_is_said(self, gateway: Gateway, command: Command) -> None:
        gateway.answer(f"DELETE /api/tasks/{ID}", problem(409, "JOB_STATE", "the job is completed"))
        with pytest.raises(CommandFailed, match="JOB_STATE: the job is completed"):
            command("jobs", "cancel", ID)

    @pytest.mark.parametrize("words", [("pause",), ("queues", "pause")])
    def test_a_queue_is_paused_by_either_name(self, gateway: Gateway, command: Command, words: tuple[str, ...]) -> None:
        gateway.answer("POST /api/tasks/queues/default/pause", (202, APPLIED))
        assert command("jobs", *words, "default", "--reason", "why") == "queue default is paused\n"
        assert gateway.sent("POST /api/tasks/queues/default/pause") == [{"reason": "why"}]

    def test_a_limit_that_is_not_named_stays(self, gateway: Gateway, command: Command) -> None:
        gateway.answer("GET /api/tasks/queues", {"queues": [QUEUE]})
        gateway.answer("PUT /api/tasks/queues/default", (202, APPLIED))
        gateway.answer("PUT /api/tasks/queues/new", (202, APPLIED | {"applied": False}))
        command("jobs", "queues", "limits", "default", "--step", "5")
        command("jobs", "queues", "limits", "default", "--max-running", "0", "--max-running-per-tenant", "2")
        assert gateway.sent("PUT /api/tasks/queues/default") == [
            {"max_running": 3, "step_s": 5.0},
            {"max_running_per_tenant": 2, "step_s": 60.0},
        ]
        assert "as soon as intake comes to it" in command("jobs", "queues", "limits", "new", "--max-running", "1")
        assert CliRunner().invoke(build(), ["jobs", "queues", "limits", "default"]).exit_code == 2

    def test_queues_are_listed_without_a_word(self, gateway: Gateway, command: Command) -> None:
        gateway.answer("GET /api/tasks/queues", {"queues": [QUEUE]})
        assert command("jobs", "queues") == command("jobs", "queues", "list")
        assert command("jobs", "queues").splitlines()[1].split()[:6] == ["default", "7", "0", "2", "12", "s"]


class TestSchedules:
    @pytest.fixture(autouse=True)
    def listed(self, gateway: Gateway) -> None:
        gateway.answer("GET /api/tasks/schedules", {"schedules": [SCHEDULE], "next_cursor": None})

    def test_one_is_added_with_what_is_not_default(self, gateway: Gateway, command: Command) -> None:
        gateway.answer("POST /api/tasks/schedules", (202, {"next_times": ["2026-01-02T02:30:00Z"]}))
        asked = ("--cron", "30 2 * * *", "--type", "echo", "--timezone", "Europe/Berlin", "--overlap", "skip")
        assert "fires at 2026-01-02" in command("jobs", "schedules", "add", "nightly", *asked)
        [sent] = gateway.sent("POST /api/tasks/schedules")
        assert (sent["timezone"], sent["overlap"], sent["missed"]) == ("Europe/Berlin", "skip", "coalesce")

    @pytest.mark.parametrize("name", ["nightly", SCHEDULE["schedule_id"]])
    def test_one_is_found_by_name_and_by_id(self, command: Command, name: str) -> None:
        assert json.loads(command("jobs", "schedules", "show", name, "--json")) == SCHEDULE
        assert '{"value": 1}' in command("jobs", "schedules", "show", name)

    def test_one_that_is_not_there_is_said_with_those_that_are(self, command: Command) -> None:
        with pytest.raises(CommandFailed, match="there is no schedule daily; there are: nightly"):
            command("jobs", "schedules", "pause", "daily")

    @pytest.mark.parametrize("action", ["pause", "resume", "run"])
    def test_one_is_changed(self, gateway: Gateway, command: Command, action: str) -> None:
        gateway.answer(f"POST /api/tasks/schedules/{SCHEDULE['schedule_id']}/{action}", (202, APPLIED))
        assert command("jobs", "schedules", action, "nightly").startswith("schedule nightly ")

    def test_a_run_whose_answer_is_lost_is_not_repeated(self, gateway: Gateway, command: Command) -> None:
        path = f"POST /api/tasks/schedules/{SCHEDULE['schedule_id']}/run"
        gateway.answer(path, problem(503, "LOG_UNAVAILABLE", "no acknowledgement"))
        with pytest.raises(NotReachable, match="it may have been done all the same"):
            command("jobs", "schedules", "run", "nightly")
        assert len(gateway.sent(path)) == 1

    def test_one_is_deleted_with_consent(self, gateway: Gateway, command: Command, folder: Path) -> None:
        path = f"DELETE /api/tasks/schedules/{SCHEDULE['schedule_id']}"
        gateway.answer(path, (202, APPLIED))
        refused = CliRunner().invoke(
            build(), ["jobs", "schedules", "delete", "nightly", "--dir", str(folder)], input="n\n"
        )
        assert (refused.exit_code, gateway.sent(path)) == (1, [])
        command("jobs", "schedules", "delete", "nightly", "--yes")
        assert len(gateway.sent(path)) == 1


class TestOperations:
    ASKED = ("jobs", "operations", "start", "cancel", "--from", "2026-01-01T00:00:00Z", "--queue", "default")

    def test_a_dry_run_counts(self, gateway: Gateway, command: Command) -> None:
        gateway.answer("POST /api/tasks/operations", {"matches": 12, "is_estimate": True})
        assert command(*self.ASKED, "--dry-run") == "at least 12 jobs match; nothing was changed\n"
        [sent] = gateway.sent("POST /api/tasks/operations")
        assert sent == {
            "filter": {"created_from": "2026-01-01T00:00:00Z", "queue": "default"},
            "action": "cancel",
            "dry_run": True,
        }

    def test_it_starts_with_consent_only(self, gateway: Gateway, command: Command, folder: Path) -> None:
        counted, started = {"matches": 2}, {"operation_id": ID}
        gateway.answer("POST /api/tasks/operations", counted)
        refused = CliRunner().invoke(build(), [*self.ASKED, "--dir", str(folder)], input="n\n")
        assert refused.exit_code == 1
        assert "Cancel 2 jobs?" in refused.output
        gateway.answer("POST /api/tasks/operations", (202, started))
        open_, done = ({"finished_at": each, "job_count": 2, "done_count": 1, "refused_count": 1} for each in (None, 1))
        gateway.answer(f"GET /api/tasks/operations/{ID}", open_, done)
        assert command(*self.ASKED, "--yes", "--wait") == "1 jobs changed; the state of 1 did not allow it\n"

    @pytest.mark.parametrize(
        "arguments",
        [
            ("cancel",),
            ("reprioritise", "--from", "2026-01-01T00:00:00Z"),
            ("cancel", "--from", "2026-01-01T00:00:00Z", "--priority", "9"),
            ("drop", "--from", "2026-01-01T00:00:00Z"),
        ],
    )
    def test_what_does_not_fit_is_a_usage_error(self, gateway: Gateway, arguments: tuple[str, ...]) -> None:
        assert CliRunner().invoke(build(), ["jobs", "operations", "start", *arguments]).exit_code == 2
        assert gateway.asked == []


class TestImporting:
    @pytest.fixture(autouse=True)
    def types(self, gateway: Gateway) -> None:
        gateway.answer("GET /api/tasks/types", {"types": [ECHO_TYPE]})
        gateway.answer("POST /api/tasks", (202, ACCEPTED))

    def test_each_row_of_a_csv_is_a_job_of_the_type(self, gateway: Gateway, command: Command, tmp_path: Path) -> None:
        file = tmp_path / "rows.csv"
        file.write_text('value,delay_s\n1,0.5\n"a, b",\n')
        said = command("jobs", "import", str(file), "--type", "echo", "--tag", "x", "--json")
        assert json.loads(said) == {"accepted": 2, "duplicates": 0, "failed": 0, "errors": []}
        sent = sorted(gateway.sent("POST /api/tasks"), key=str)
        assert [each["parameters"] for each in sent] == [{"value": "1", "delay_s": 0.5}, {"value": "a, b"}]
        assert all((each["type"], each["tags"]) == ("echo", ["x"]) for each in sent)

    def test_the_same_file_has_the_same_keys(self, gateway: Gateway, command: Command, tmp_path: Path) -> None:
        file = tmp_path / "rows.jsonl"
        file.write_text('{"type": "echo"}\n\n{"type": "echo", "parameters": {}}\n')
        for _ in range(2):
            command("jobs", "import", str(file))
        keys = [headers["Idempotency-Key"] for _, _, headers in gateway.asked]
        assert (len(keys), len(set(keys))) == (4, 2)
        gateway.answer("POST /api/tasks", ACCEPTED | {"duplicate": True})
        assert command("jobs", "import", str(file)) == "0 accepted, 2 were there already, 0 failed\n"

    def test_a_line_says_more_than_the_options(self, gateway: Gateway, command: Command, tmp_path: Path) -> None:
        file = tmp_path / "rows.jsonl"
        file.write_text('{"type": "other", "queue": "mine"}\n{"parameters": {"value": 2}}\n')
        command("jobs", "import", str(file), "--type", "echo", "--queue", "theirs")
        sent = {(each["type"], each["queue"]) for each in gateway.sent("POST /api/tasks")}
        assert sent == {("other", "mine"), ("echo", "theirs")}

    def test_every_error_has_its_record(self, gateway: Gateway, folder: Path, tmp_path: Path) -> None:
        file = tmp_path / "rows.jsonl"
        file.write_text('\n{"type": "echo"}\nnope\n')
        gateway.answer("POST /api/tasks", problem(400, "BAD_PARAMETERS", "1 fault", ("/parameters/x", "too large")))
        done = CliRunner().invoke(build(), ["jobs", "import", str(file), "--json", "--dir", str(folder)])
        assert isinstance(done.exception, CommandFailed)
        assert [(each["record"], each["line"], each["error"][:30]) for each in json.loads(done.stdout)["errors"]] == [
            (1, 2, "BAD_PARAMETERS: 1 fault; /para"),
            (2, 3, "no JSON: Expecting value: line"),
        ]

    def test_a_gateway_that_goes_away_ends_it_with_what_was_done(
        self, gateway: Gateway, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deploy.admin.gateway.PAUSE_S", 0.0)
        file = tmp_path / "rows.jsonl"
        file.write_text('{"type": "echo"}\n' * 40)
        gateway.answer("POST /api/tasks", problem(503, "LOG_UNAVAILABLE", "away"))
        done = CliRunner().invoke(build(), ["jobs", "import", str(file), "--json", "--dir", str(folder)])
        assert isinstance(done.exception, NotReachable)
        assert json.loads(done.stdout)["accepted"] == 0

    def test_a_csv_needs_a_type_that_exists(self, command: Command, folder: Path, tmp_path: Path) -> None:
        file = tmp_path / "rows.csv"
        file.write_text("value\n1\n")
        assert CliRunner().invoke(build(), ["jobs", "import", str(file), "--dir", str(folder)]).exit_code == 2
        with pytest.raises(CommandFailed, match="there is no task type ecko"):
            command("jobs", "import", str(file), "--type", "ecko")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ({"type": "task_state", "status": "running", "error": None}, ["state     running"]),
        ({"type": "task_state", "status": "failed", "error": "no\x1brows"}, ["state     failed: no\\u001brows"]),
        ({"type": "task_progress", "fraction": 0.25, "message": "rows"}, ["progress  25% rows"]),
        ({"type": "task_progress", "fraction": None, "message": "rows"}, ["progress  rows"]),
        ({"type": "task_output", "text": "one\ntwo\n"}, ["output    one", "output    two"]),
        ({"type": "hello"}, []),
    ],
)
def test_messages_of_the_websocket_are_lines(message: dict[str, Any], shown: list[str]) -> None:
    assert lines(message) == shown


class TestFollowing:
    """`jobs submit --follow`, on a websocket that tells what a test gives it."""

    @staticmethod
    def known(port: int) -> Addresses:
        return Addresses(
            folder=Path("/nowhere"),
            kafka=None,
            postgres=None,
            gateway="http://127.0.0.1:1",
            websocket=f"ws://127.0.0.1:{port}",
            api_key="tg_key",
            agent_id=None,
            agent_secret=None,
        )

    async def followed(self, gateway: Gateway, *messages: Mapping[str, Any], close_code: int = 1000) -> list[str]:
        """Follow the job; return the cursors that the sockets were opened with."""
        cursors: list[str] = []

        async def serve(request: web.Request) -> web.WebSocketResponse:
            cursors.append(request.query.get("cursor", ""))
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            for message in messages:
                await socket.send_json(message)
            await socket.close(code=close_code)
            return socket

        app = web.Application()
        app.router.add_get(f"/ws/tasks/{ID}/", serve)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            await follow(self.known(port), Tasks(GatewayCalls(gateway.url, api_key="x")), ID, as_json=True)
        finally:
            # The server answers connections in their order, and leaks one that it accepts while it closes.
            async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/"):
                await runner.cleanup()
        return cursors

    async def test_it_ends_with_the_job(self, gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
        gateway.answer(f"GET /api/tasks/status/{ID}", JOB | {"status": "running"}, JOB)
        told = [
            {"type": "hello", "cursor": "0"},
            {"type": "task_output", "cursor": "1", "text": "one\n"},
            {"type": "task_state", "cursor": "2", "status": "completed"},
        ]
        assert await self.followed(gateway, *told) == [""]
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == told[1:]

    async def test_a_socket_that_breaks_is_opened_again_from_its_cursor(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job_watching, "PAUSE_S", 0.01)
        monkeypatch.setattr(job_watching, "LATE_S", 0.1)
        gateway.answer(f"GET /api/tasks/status/{ID}", *[JOB | {"status": "running"}] * 3, JOB)
        cursors = await self.followed(gateway, {"type": "task_progress", "cursor": "7", "fraction": 0.5})
        assert cursors[:2] == ["", "7"]

    async def test_a_key_that_ends_ends_it(self, gateway: Gateway) -> None:
        gateway.answer(f"GET /api/tasks/status/{ID}", JOB | {"status": "running"})
        with pytest.raises(CommandFailed, match="the API key is not in force any more"):
            await self.followed(gateway, close_code=job_watching.NOT_VALID)

    async def test_a_gateway_that_goes_away_ends_it(self, gateway: Gateway) -> None:
        gateway.answer(f"GET /api/tasks/status/{ID}", problem(403, "FORBIDDEN", "no right"))
        with pytest.raises(CommandFailed, match="FORBIDDEN: no right"):
            await self.followed(gateway)

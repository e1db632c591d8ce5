"""Background jobs as the API has them: the paths that commands call, with an API key."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from deploy.admin.gateway import NOT_FOUND, GatewayCalls, Refused
from deploy.errors import CommandFailed

TASKS = "/api/tasks"
PAGE_MAX = 500
IDEMPOTENCY_KEY = "Idempotency-Key"
FINISHED = ("completed", "failed", "cancelled")

Document = dict[str, Any]


class Tasks:
    """The jobs of one API key's tenant."""

    def __init__(self, calls: GatewayCalls) -> None:
        """Ask by *calls*."""
        self._calls = calls

    def submit(self, submission: Mapping[str, object], *, key: str | None = None) -> Document:
        """Submit a job under an idempotency key, its own or one made here: a repeated attempt doubles nothing."""
        headers = {IDEMPOTENCY_KEY: key or f"cli-{uuid4()}"}
        accepted: Document = self._calls.call("POST", TASKS, submission, headers=headers)
        return accepted

    def job(self, job_id: str) -> Document:
        """Return one job. Raises CommandFailed: no such job."""
        found: Document = self._calls.found(f"{TASKS}/status/{quote(job_id, safe='')}", f"job {job_id}")
        return found

    def log(self, job_id: str, attempt: int | None) -> Document:
        """Return the output of an attempt, the newest by default. Raises CommandFailed: no such attempt."""
        query = "" if attempt is None else f"?attempt={attempt}"
        try:
            found: Document = self._calls.call("GET", f"{TASKS}/logs/{quote(job_id, safe='')}{query}")
        except Refused as refused:
            if refused.code != NOT_FOUND:
                raise
            raise CommandFailed(f"no log: {refused.detail}") from refused
        return found

    def listed(self, query: Mapping[str, str], *, count: int) -> list[Document]:
        """Return up to *count* jobs that *query* admits, the newest first."""
        return self._calls.listed(f"{TASKS}/list", "tasks", query, count=count, page_max=PAGE_MAX)

    def change(self, method: str, job_id: str, path: str = "", document: object = None) -> Document:
        """Change a job. Raises Refused: its state does not allow it, or no such job exists."""
        changed: Document = self._calls.call(method, f"{TASKS}/{quote(job_id, safe='')}{path}", document)
        return changed

    def types(self) -> list[Document]:
        """Return the task types."""
        found: list[Document] = self._calls.call("GET", f"{TASKS}/types")["types"]
        return found

    def queues(self) -> list[Document]:
        """Return the queues."""
        found: list[Document] = self._calls.call("GET", f"{TASKS}/queues")["queues"]
        return found

    def change_queue(self, method: str, queue: str, path: str = "", document: object = None) -> Document:
        """Pause or resume a queue, or set its limits."""
        changed: Document = self._calls.call(method, f"{TASKS}/queues/{quote(queue, safe='')}{path}", document)
        return changed

    def schedules(self) -> list[Document]:
        """Return every schedule."""
        return self._calls.listed(f"{TASKS}/schedules", "schedules", {}, count=None, page_max=PAGE_MAX)

    def schedule(self, name: str) -> Document:
        """Return the schedule of that name or id. Raises CommandFailed: no such schedule."""
        found = self.schedules()
        for each in found:
            if name in (each["name"], each["schedule_id"]):
                return each
        known = ", ".join(each["name"] for each in found) or "none"
        raise CommandFailed(f"there is no schedule {name}; there are: {known}")

    def add_schedule(self, definition: Mapping[str, object]) -> Document:
        """Create a schedule."""
        made: Document = self._calls.call("POST", f"{TASKS}/schedules", definition, is_repeatable=False)
        return made

    def change_schedule(self, method: str, schedule_id: str, path: str = "") -> Document:
        """Delete, pause, resume or run a schedule."""
        is_run = path == "/run"  # a second time it is a second job
        changed: Document = self._calls.call(
            method, f"{TASKS}/schedules/{quote(schedule_id, safe='')}{path}", is_repeatable=not is_run
        )
        return changed

    def operations(self, *, count: int) -> list[Document]:
        """Return up to *count* operations, the newest first."""
        return self._calls.listed(f"{TASKS}/operations", "operations", {}, count=count, page_max=PAGE_MAX)

    def operation(self, operation_id: str) -> Document:
        """Return one operation. Raises CommandFailed: no such operation."""
        path = f"{TASKS}/operations/{quote(operation_id, safe='')}"
        found: Document = self._calls.found(path, f"operation {operation_id}")
        return found

    def start_operation(self, asked: Mapping[str, object]) -> Document:
        """Start an operation, or count what it would change."""
        started: Document = self._calls.call("POST", f"{TASKS}/operations", asked)
        return started

"""The clock of a process is wrong and steps: what is stored, and in which order, depends on no process's clock."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.faults.checker import check
from tests.faults.load import sending
from tests.faults.processes import ROOT, own_process
from tests.support.stack import RunningStack

WALL_CLOCKS = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("time", "time"),
    ("time", "time_ns"),
}
# A clock is injected where a process is put together. The client runs with the agent, not with us.
MAY_READ = {
    "gateway/__main__.py",
    "gateway/client/run.py",
    *(f"processors/{each}/process.py" for each in ("runs/persistence", "runs/evaluation", "runs/retention", "fanout")),
    *(f"processors/{each}/process.py" for each in ("events/rows", "events/processing", "jobs/intake")),
    *(f"processors/documents/{each}/process.py" for each in ("intake", "work", "store")),
    *("processors/archive/process.py", "processors/sinks/process.py", "processors/sinks/loading.py"),
    # What is shown, or bounds a request: whatever decides about a job goes by Postgres's clock.
    *(f"processors/jobs/{each}.py" for each in ("executor/attempts", "executor/executor", "children/output")),
    *("processors/jobs/intake/store.py", "gateway/jobs/postgres.py"),
}


def test_a_gateway_whose_clock_is_wrong_and_steps_loses_and_reorders_nothing(
    stack: RunningStack, tmp_path: Path
) -> None:
    with own_process(stack, tmp_path, "gateway", variant="gateway_with_a_wandering_clock") as gateway:
        gateway.wait_ready()
        with sending(stack, tmp_path / "ledger.jsonl", url=gateway.url) as load:
            load.wait_for()
    assert check(stack, [load.ledger]).rejected == 0
    assert load.summary["errors"] == {}


def test_no_process_reads_a_wall_clock_but_where_it_is_put_together() -> None:
    """Leases, backoff and patience go by the monotonic clock, and rows by that of Postgres."""
    sources = [path for package in ("gateway", "processors") for path in (ROOT / package).rglob("*.py")]
    reading = {path.relative_to(ROOT).as_posix() for path in sources if any(wall_clock_reads(path))}
    assert reading == MAY_READ


def wall_clock_reads(path: Path) -> Iterator[ast.AST]:
    """Yield where a module takes the time of day."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in WALL_CLOCKS:
                yield node
            case ast.ImportFrom(module="time", names=names) if {each.name for each in names} & {"time", "time_ns"}:
                yield node

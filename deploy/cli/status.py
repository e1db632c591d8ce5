"""`tidegate status`: each process and what it waits for, the addresses, and how far the groups are behind."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import typer

from deploy.admin import document_health, job_health, lag, problems, readiness, topics
from deploy.admin.document_health import LaneState
from deploy.admin.job_health import ExecutorState
from deploy.admin.lag import PartitionLag
from deploy.admin.reach import kafka_answers, postgres_answers
from deploy.admin.readiness import Readiness, State
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, masked, print_json, table
from deploy.cli.stack import is_process_ready, running
from deploy.errors import CommandFailed
from deploy.local import logs
from deploy.local.processes import up_since
from deploy.local.settings_file import kafka_of
from deploy.local.stack_file import RunningProcess, Stack
from deploy.log.endpoints import endpoint_states
from schemas.kafka.connection import KafkaSettings

EXECUTOR_COLUMNS = ("executor", "slots", "busy", "state", "silent for", "queues")
LANE_COLUMNS = ("lane", "documents in flight", "oldest")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """
    Show each process, whether it is ready and why not, the addresses, and how far the groups are behind.

    Exit code 1 if a process is not ready, or a group cannot go on.
    """
    stack = running(folder)
    kafka = kafka_of(stack, folder)
    with ThreadPoolExecutor(len(stack.processes)) as threads:
        answers = threads.map(lambda each: _readiness(stack, each), stack.processes)
        states = list(zip(stack.processes, answers, strict=True))
    found, lags = [*_of_processes(states)], list[PartitionLag]()
    if kafka_answers(kafka):
        try:
            lags = lag.measure(kafka)
            found += _of_log(kafka, lags)
        except CommandFailed as error:
            found.append(str(error))
    executors, lanes = list[ExecutorState](), list[LaneState]()
    if postgres_answers(stack.postgres):
        try:
            executors = job_health.executors(stack.postgres)
            found += job_health.of_executors(executors)
            found += job_health.of_queues(job_health.unserved_queues(stack.postgres))
            documents = document_health.waiting(stack.postgres)
            lanes = [each for each in documents.lanes if each.documents]
            found += document_health.of_waiting(documents)
            found += document_health.of_stuck(document_health.stuck(stack.postgres))
            found += document_health.of_building(document_health.building(stack.postgres))
        except CommandFailed as error:
            found.append(str(error))
    processes: list[dict[str, object]] = [
        {
            "name": process.name,
            "pid": process.pid,
            "up_since": up_since(process.pid),
            "ready": state.state in (State.READY, State.DEGRADED),
            "state": state.state.value,
        }
        for process, state in states
    ]
    groups = _by_group(lags)
    if as_json:
        print_json(
            {
                "processes": processes,
                "addresses": _addresses(stack),
                "lag_records": {name: of_group["records"] for name, of_group in groups.items()},
                "lag_seconds": {name: of_group["seconds"] for name, of_group in groups.items()},
                "undecided_records": {name: of_group["undecided"] for name, of_group in groups.items()},
                "executors": [dataclasses.asdict(each) for each in executors],
                "documents_waiting": {each.lane: dataclasses.asdict(each) for each in lanes},
                "problems": found,
            }
        )
    else:
        columns = ("name", "pid", "up_since", "state")
        console.print(table(("process", *columns[1:]), ([each[name] for name in columns] for each in processes)))
        console.print(table(("address of", ""), _addresses(stack).items()))
        rows = ((name, *of_group.values()) for name, of_group in groups.items())
        console.print(table(("group", "lag in records", "lag in seconds", "undecided"), rows))
        if executors:
            console.print(table(EXECUTOR_COLUMNS, (_executor_row(each) for each in executors)))
        if lanes:
            console.print(table(LANE_COLUMNS, ((each.lane, each.documents, _age(each.oldest_s)) for each in lanes)))
        for problem in found:
            console.print(problem, style="red", markup=False, soft_wrap=True)
    if found:
        raise CommandFailed(f"{len(found)} problems")


def _readiness(stack: Stack, process: RunningProcess) -> Readiness:
    if process.name in ("kafka", "postgres"):
        if is_process_ready(stack, process.name):
            return Readiness(state=State.READY)
        return Readiness(state=State.UNREACHABLE, reasons=("it does not answer",))
    return readiness.ask(stack.management[process.name])


def _of_processes(states: Sequence[tuple[RunningProcess, Readiness]]) -> Sequence[str]:
    found: list[str] = []
    for process, state in states:
        found += [f"{process.name} is {state.state.value}: {reason}" for reason in state.reasons]
        if state.state is State.UNREACHABLE:
            found.append(f"{process.name} logged last: {logs.cause(Path(process.log))}")
    return found


def _of_log(kafka: KafkaSettings, lags: Sequence[PartitionLag]) -> Sequence[str]:
    return [
        *problems.of_positions(lags),
        *problems.of_archive(lags),
        *problems.of_transactions(kafka, lags),
        *problems.of_dead_letters(kafka, topics.groups_of(kafka)),
        *problems.of_endpoints(endpoint_states(kafka)),
    ]


def _executor_row(executor: ExecutorState) -> tuple[object, ...]:
    state = "draining" if executor.is_draining else "live"
    return (
        f"{executor.host}/{executor.pid}",
        executor.slots,
        executor.busy,
        state if executor.is_live else "silent",
        f"{executor.silent_s:.0f} s",
        list(executor.queues),
    )


def _age(age_s: float | None) -> str | None:
    return None if age_s is None else f"{age_s:.0f} s"


def _addresses(stack: Stack) -> Mapping[str, str]:
    return {
        "gateway": stack.gateway,
        **({"live_streams": stack.websocket} if stack.websocket else {}),
        "kafka": stack.kafka,
        "postgres": masked(stack.postgres),
        **{f"{name}_management": address for name, address in stack.management.items()},
    }


def _by_group(lags: Sequence[PartitionLag]) -> Mapping[str, Mapping[str, float | None]]:
    """Return the lag of each group; its seconds are None where a partition's could not be read."""
    groups: dict[str, dict[str, float | None]] = {}
    for each in lags:
        found = groups.setdefault(each.group, {"records": 0, "seconds": 0.0, "undecided": 0})
        found["records"] = (found["records"] or 0) + (each.records or 0)
        found["undecided"] = (found["undecided"] or 0) + each.undecided
        before_s, here_s = found["seconds"], each.seconds
        found["seconds"] = None if before_s is None or here_s is None else max(before_s, here_s)
    return groups

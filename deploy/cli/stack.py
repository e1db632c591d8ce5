"""`tidegate up`, `down`, `logs`, `restart`: the embedded stack."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated

import typer

from deploy.admin.reach import is_ready, kafka_answers, postgres_answers
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import print_json
from deploy.errors import CommandFailed, NotReachable
from deploy.local import background, lock, logs, made, purge, stack_file
from deploy.local.ports import Choice
from deploy.local.purge import Purged
from deploy.local.stack_file import Stack
from deploy.local.supervisor import Supervisor
from schemas.kafka.connection import KafkaSettings

STOP_TIMEOUT_S = 150.0  # each process in turn may use its own time up
RESTART_TIMEOUT_S = 60.0
RESTART_SIGNALS = {"postgres": signal.SIGINT}  # SIGTERM waits until every session has ended by itself
POLL_S = 0.1

PortChoice = Annotated[Choice, typer.Option(help="auto: any free ones; default: the known ones where they are free.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("logs")(show_logs)
    app.command("restart")(restart)


def up(
    folder: Dir = DEFAULT_DIR,
    ports: PortChoice = Choice.DEFAULT,
    *,
    without: Annotated[
        list[str] | None, typer.Option(help="A process of Tidegate to leave out, such as evaluation.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything is ready.")] = False,
    as_json: Json = False,
) -> None:
    """Start Kafka, Postgres and Tidegate's processes, and keep them running until Ctrl-C."""

    def work(say: Callable[[str], None], ready: Callable[[], None]) -> None:
        speak = (lambda line: say(_document(line))) if as_json else say
        supervisor = Supervisor(folder, choice=ports, environ=os.environ, say=speak, without=frozenset(without or ()))
        asyncio.run(supervisor.run(ready))

    if detach:
        folder.mkdir(parents=True, exist_ok=True)
        made.claim(folder)
        background.detach(logs.path(folder, "up"), work)
    else:
        work(lambda line: print(line, flush=True), lambda: None)


def down(
    folder: Dir = DEFAULT_DIR,
    *,
    purge_too: Annotated[bool, typer.Option("--purge", help="Delete its data, logs and credentials too.")] = False,
    as_json: Json = False,
) -> None:
    """Stop the stack; with --purge, remove what it made in its folder, and say what that was."""
    pid = lock.supervisor(folder)
    if pid:
        os.kill(pid, signal.SIGTERM)
        _wait(lambda: lock.supervisor(folder) is None, STOP_TIMEOUT_S, f"the stack in {folder} (pid {pid}) lives on")
    if pid is None and not as_json:
        print(f"no stack runs in {folder}")
    purged: list[Purged] = []
    for step in purge.purge(folder) if purge_too else ():
        purged.append(step)
        if not as_json:
            print(f"removed {step.path}" if step.left_because is None else f"left {step.path}: {step.left_because}")
    if as_json:
        removed = [step.path for step in purged if step.left_because is None]
        left = [{"path": step.path, "reason": step.left_because} for step in purged if step.left_because is not None]
        print_json({"stopped": pid is not None, "purged": purge_too, "removed": removed, "left": left})


def show_logs(
    name: Annotated[str, typer.Argument(help="A process of `tidegate status`, or up: the supervisor itself.")],
    folder: Dir = DEFAULT_DIR,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 200,
    as_json: Json = False,
) -> None:
    """Print the log of one process; with --json each line is a JSON object, whatever the process wrote."""
    path = logs.path(folder, name)
    if not path.exists():
        known = ", ".join(sorted(log.stem for log in (folder / logs.FOLDER).glob("*.log"))) or "none yet"
        raise CommandFailed(f"no log of {name} in {folder}; there are: {known}")
    texts = logs.read(path, lines_max=lines, follow=follow)
    for text in logs.as_documents(texts) if as_json else texts:
        sys.stdout.write(text)
        sys.stdout.flush()


def restart(
    name: Annotated[str, typer.Argument(help="A process of `tidegate status`.")],
    folder: Dir = DEFAULT_DIR,
    *,
    as_json: Json = False,
) -> None:
    """Stop one process; the supervisor starts it again. Returns when it is ready."""
    before = _pid(running(folder), name)
    os.kill(before, RESTART_SIGNALS.get(name, signal.SIGTERM))

    def is_back() -> bool:
        stack = stack_file.read(folder)
        return stack is not None and _pid(stack, name) != before and is_process_ready(stack, name)

    _wait(is_back, RESTART_TIMEOUT_S, f"{name} is not ready again (see `tidegate logs {name}`)")
    after = _pid(running(folder), name)
    if as_json:
        print_json({"name": name, "pid": after})
    else:
        print(f"{name} runs again (pid {after})")


def running(folder: Path) -> Stack:
    """
    Return the stack that runs in *folder*.

    Raises:
        NotReachable: none does, or it is not ready yet.
    """
    stack = stack_file.read(folder)
    if stack is None or lock.supervisor(folder) is None:
        raise NotReachable(f"no stack runs in {folder}: start one with `tidegate up`")
    return stack


def is_process_ready(stack: Stack, name: str) -> bool:
    """Ask the process called *name* whether it can do its work."""
    if name == "kafka":
        return kafka_answers(KafkaSettings(bootstrap=stack.kafka))  # the stack's own, so not secured
    if name == "postgres":
        return postgres_answers(stack.postgres)
    return is_ready(stack.management[name])


def _document(line: str) -> str:
    return json.dumps({"timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), "message": line})


def _pid(stack: Stack, name: str) -> int:
    for process in stack.processes:
        if process.name == name:
            return process.pid
    raise CommandFailed(
        f"the stack has no process {name}; it has {', '.join(process.name for process in stack.processes)}"
    )


def _wait(is_done: Callable[[], bool], timeout_s: float, complaint: str) -> None:
    deadline_s = monotonic() + timeout_s
    while not is_done():
        if monotonic() > deadline_s:
            raise CommandFailed(f"{complaint} after {timeout_s:.0f} s")
        sleep(POLL_S)

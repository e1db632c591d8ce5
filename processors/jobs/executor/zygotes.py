"""The zygotes of an executor, one for each class of tasks, started again when they end."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from processors.children import linux
from processors.children.processes import ZygoteGone
from processors.jobs.children.processes import ChildProcess, TaskZygote
from schemas.jobs.types import TaskTypes

LIGHT, NUMERIC = "light", "numeric"
NUMERIC_MODULES = ("numpy", "scipy", "sklearn")
RESTARTED_AFTER_S = 0.2
ATTEMPTS_MAX = 100  # to get a child, before the executor ends itself

log = structlog.get_logger()


class Zygotes:
    """The zygotes that an executor's types need."""

    def __init__(self, types: TaskTypes, *, dsn: str, ended: Callable[[str], None]) -> None:
        """Start a zygote for each class of *types*; *ended* is called with the cause when children end."""
        classes: dict[str, list[str]] = {}
        for declared in types.values():
            modules = classes.setdefault(NUMERIC if declared.is_numeric else LIGHT, [])
            if (module := declared.function.partition(":")[0]) not in modules:
                modules.append(module)
        if NUMERIC in classes:
            classes[NUMERIC] = [*NUMERIC_MODULES, *classes[NUMERIC]]
        linux.adopt_orphans()
        self._modules: Mapping[str, Sequence[str]] = classes
        self._dsn = dsn
        self._ended = ended
        self._zygotes = {name: self._start(name) for name in classes}

    async def child(self, name: str) -> ChildProcess:
        """
        Return a new child of the class *name*.

        Raises:
            ZygoteGone: no zygote of the class stays alive.
        """
        for _ in range(ATTEMPTS_MAX):
            zygote = self._zygotes[name]
            try:
                return await zygote.fork()
            except ZygoteGone:
                self._ended("zygote")
                log.warning("a zygote is gone, starting another", zygote=name)
                await asyncio.sleep(RESTARTED_AFTER_S)
                if self._zygotes[name] is zygote:  # nobody else has started it meanwhile
                    self._zygotes[name] = self._start(name)
                self.kill_orphans()
        raise ZygoteGone(f"no zygote of the class {name} stays alive: see its traceback above")

    def kill_orphans(self) -> None:
        """Kill what the children of a zygote that was killed have left behind: it became this process's."""
        own = {zygote.pid for zygote in self._zygotes.values()}
        for pid in set(linux.children_of(os.getpid())) - own:
            linux.kill(pid)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    async def close(self) -> None:
        """End every zygote with all its children."""
        await asyncio.gather(*(zygote.close() for zygote in self._zygotes.values()))
        self.kill_orphans()

    def _start(self, name: str) -> TaskZygote:
        return TaskZygote.started(self._modules[name], dsn=self._dsn)

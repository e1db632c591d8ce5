"""Fixtures that every suite may use."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.faults.processes import free_port
from tests.support.jobs import JobServer, Tables
from tests.support.stack import RunningStack, TidegateFailed, running, tidegate

# On a busy machine an example that takes long says nothing.
hypothesis.settings.register_profile("tidegate", deadline=None)
hypothesis.settings.load_profile("tidegate")

# A test's Kafka lives for a minute or two: what the JVM's second compiler costs in that time is never earned back.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

# A run that is ended from outside takes its processes down too; a shell's background leaves SIGINT ignored.
for ending in (signal.SIGINT, signal.SIGTERM):
    signal.signal(ending, signal.default_int_handler)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Yield the one stack of a test run. A test that kills a process waits until it is ready again."""
    folder: Path = tmp_path_factory.mktemp("stack")
    try:
        with running(folder) as started:
            yield started
    except TidegateFailed as failure:
        pytest.fail(f"{failure}\n--- {folder / 'up.log'}\n{(folder / 'up.log').read_text()}", pytrace=False)
    finally:
        tidegate("down", "--purge", "--dir", str(folder))


@pytest.fixture(scope="session")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    """Yield a Postgres with the tables and nothing beside it, for tests of executors."""
    server = JobServer(tmp_path_factory.mktemp("jobs"), free_port())
    server.start()
    try:
        server.set_up()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()


@pytest.fixture
def tables(job_server: JobServer) -> Tables:
    """Return the tables of jobs, empty."""
    found = Tables(job_server)
    found.clear()
    return found

"""Every setting that the documentation names reaches the processes of a local stack, or the start is refused."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest

from deploy.errors import CommandFailed
from deploy.local import development, given, services
from gateway.config import Settings
from processors.archive.config import ArchiveSettings
from processors.documents.intake.config import DocumentsIntakeSettings
from processors.documents.store.config import StoreSettings
from processors.documents.work.config import EmbedSettings
from processors.fanout.config import FanoutSettings
from processors.jobs.executor.config import ExecutorSettings
from processors.jobs.intake.config import IntakeSettings
from processors.jobs.tasks.http_probe import ProbeSettings
from processors.runs.evaluation.config import EvaluationSettings
from processors.runs.persistence.config import PersistenceSettings
from processors.runs.retention.config import MaintenanceSettings
from schemas.access import credentials
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import SettingsInvalid

SECTIONS = (
    *(Settings, PersistenceSettings, FanoutSettings, EvaluationSettings, MaintenanceSettings, IntakeSettings),
    *(ExecutorSettings, ProbeSettings, DocumentsIntakeSettings, EmbedSettings, StoreSettings, ArchiveSettings),
)
# Decided before the settings are put together, each with a test below or in tests/integration/test_stack.py.
DECIDED = {
    *(each.metadata["env"] for each in dataclasses.fields(KafkaSettings)),
    *("TIDEGATE_POSTGRES", "TIDEGATE_CREDENTIALS", "TIDEGATE_GATEWAY_PORT", "TIDEGATE_FANOUT_PORT"),
    *("TIDEGATE_MANAGEMENT_PORT", "TIDEGATE_ENDPOINTS", "TIDEGATE_EVALUATION_URL", "TIDEGATE_EVALUATION_SECRET"),
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALUES: dict[type, str] = {int: "7", float: "7.5", bool: "false", str: "127.0.0.7", Path: "/elsewhere/file"}


def declared() -> Iterator[tuple[str, type]]:
    """Yield each documented setting and the kind of its value."""
    found: dict[str, type] = {}

    def add(section: Any) -> None:
        hints = get_type_hints(section)
        for each in dataclasses.fields(section):
            kind = hints[each.name]
            if dataclasses.is_dataclass(kind):
                add(kind)
            else:
                found[each.metadata["env"]] = next((one for one in get_args(kind) if one is not NoneType), kind)

    for section in SECTIONS:
        add(section)
    yield from sorted(found.items())


def settings(environ: dict[str, str]) -> dict[str, str]:
    """Return what a service of a stack is told in this environment."""
    told = services.settings(
        environ,
        folder=Path("/stack"),
        kafka=KafkaSettings(bootstrap="127.0.0.1:1"),
        postgres="postgresql://x",
        credentials=Path("/stack/credentials.toml"),
        gateway_port=1,
        fanout_port=2,
        management_port=3,
        evaluation={},
    )
    return environ | told


@pytest.mark.parametrize(("name", "kind"), [each for each in declared() if each[0] not in DECIDED])
def test_what_the_environment_says_is_what_a_process_is_told(name: str, kind: type) -> None:
    value = "/elsewhere" if name in services.PATHS else list(kind)[-1] if issubclass(kind, Enum) else VALUES[kind]
    assert settings({name: value})[name] == value


def test_a_service_without_the_log_is_given_neither_its_address_nor_credentials() -> None:
    given = {"TIDEGATE_KAFKA": "kafka:1", "TIDEGATE_KAFKA_USERNAME": "x", "TIDEGATE_CREDENTIALS": "/c.toml"}
    told = given | services.settings(
        given,
        folder=Path("/stack"),
        kafka=None,
        postgres="postgresql://x",
        credentials=None,
        gateway_port=1,
        fanout_port=2,
        management_port=3,
        evaluation={},
    )
    assert {told[name] for name in given} == {""}
    assert told["TIDEGATE_POSTGRES"] == "postgresql://x"


@pytest.mark.parametrize(("drain", "stop_timeout_s"), [("40", 55.0), ("", 20.0), ("soon", 30.0)])
def test_an_executor_is_waited_for_longer_than_its_drain(drain: str, stop_timeout_s: float) -> None:
    [executor] = [each for each in services.services(["default"]) if each.name == "executor"]
    told = settings({"TIDEGATE_EXECUTOR_DRAIN_S": drain})
    assert services.program(executor, told).stop_timeout_s == stop_timeout_s


def test_a_relative_path_means_the_same_whatever_the_working_directory_is() -> None:
    assert settings({"TIDEGATE_RETENTION": "mine.toml"})["TIDEGATE_RETENTION"] == str(Path.cwd() / "mine.toml")
    assert settings({"TIDEGATE_OBJECTS": "s3://bucket/x"})["TIDEGATE_OBJECTS"] == "s3://bucket/x"


@pytest.mark.parametrize(("host", "more"), [("", ""), ("0.0.0.0", ""), ("10.0.0.1", ",http://10.0.0.1:1")])
def test_pages_of_the_gateway_may_connect_to_the_fanout(host: str, more: str) -> None:
    told = settings({"TIDEGATE_GATEWAY_HOST": host})
    assert told["TIDEGATE_FANOUT_ORIGINS"] == f"http://127.0.0.1:1,http://localhost:1{more}"


def test_an_empty_setting_is_none() -> None:
    assert settings({"TIDEGATE_GATEWAY_HOST": ""})["TIDEGATE_GATEWAY_HOST"] == "127.0.0.1"


@pytest.mark.parametrize("text", ["0", "65536", "80 80", "-1", "http", "٣"])
def test_a_port_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"TIDEGATE_GATEWAY_PORT='.*' must be a port from 1 to 65535"):
        given.port({"TIDEGATE_GATEWAY_PORT": text}, "TIDEGATE_GATEWAY_PORT")


def test_ports_that_are_named_are_fixed_and_management_counts_up() -> None:
    running = services.services(["default"])
    environ = {"TIDEGATE_GATEWAY_PORT": "81", "TIDEGATE_FANOUT_PORT": "82", "TIDEGATE_MANAGEMENT_PORT": "83"}
    assert given.fixed_ports(environ, running) == {"gateway": 81, "fanout": 82, "gateway management": 83}
    assert list(services.management_ports(running, 83).values()) == list(range(83, 94))
    assert given.fixed_ports({}, running) == {}


def test_an_address_that_this_machine_does_not_have_is_refused() -> None:
    with pytest.raises(
        CommandFailed, match=r"TIDEGATE_FANOUT_HOST=192.0.2.1: this machine cannot listen on that address"
    ):
        given.hosts({"TIDEGATE_FANOUT_HOST": "192.0.2.1"})
    assert given.hosts({"TIDEGATE_GATEWAY_HOST": "0.0.0.0"}) == ["127.0.0.1", "0.0.0.0"]


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "http://127.0.0.1:8"), ("::", "http://[::1]:8"), ("10.0.0.1", "http://10.0.0.1:8")],
)
def test_a_server_is_reached_where_it_listens(host: str, address: str) -> None:
    assert services.url(host, 8) == address


class TestCredentialsOfAnotherPlace:
    """TIDEGATE_CREDENTIALS names a file that is not the stack's."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "stack").mkdir()
        return tmp_path / "stack"

    @pytest.fixture
    def environ(self, tmp_path: Path) -> dict[str, str]:
        (tmp_path / "other").mkdir()
        made = development.prepare(tmp_path / "other", logins=[], now=NOW)
        return {"TIDEGATE_CREDENTIALS": str(made.credentials), "TIDEGATE_API_KEY": made.api_key}

    def test_they_are_used_and_not_changed(self, folder: Path, environ: dict[str, str]) -> None:
        path = Path(environ["TIDEGATE_CREDENTIALS"])
        before = path.read_bytes()
        told = development.prepare(folder, logins=["owner"], now=NOW, environ=environ)
        agents = credentials.parse(before.decode()).tenants["demo"].agents
        assert (told.credentials, told.api_key, told.agent_id) == (path, environ["TIDEGATE_API_KEY"], "demo-agent")
        assert told.agent_secret == agents["demo-agent"].secrets[0]
        assert path.read_bytes() == before
        assert not (folder / development.CREDENTIALS).exists()
        assert development.prepare(folder, logins=["owner"], now=NOW, environ=environ) == told

    @pytest.mark.parametrize("key", ["", "tg_1_2"])
    def test_without_a_key_of_theirs_the_start_is_refused(
        self, folder: Path, environ: dict[str, str], key: str
    ) -> None:
        with pytest.raises(CommandFailed, match="set TIDEGATE_API_KEY to a valid key of that file"):
            development.prepare(folder, logins=[], now=NOW, environ={**environ, "TIDEGATE_API_KEY": key})

    def test_without_an_agent_that_signs_the_start_is_refused(self, folder: Path, environ: dict[str, str]) -> None:
        with pytest.raises(CommandFailed, match="has no agent plain-agent with a secret"):
            development.prepare(
                folder, logins=[], now=NOW, environ={**environ, "TIDEGATE_AGENT_ID": development.PLAIN_AGENT}
            )

    def test_a_missing_file_is_named(self, folder: Path, environ: dict[str, str]) -> None:
        Path(environ["TIDEGATE_CREDENTIALS"]).unlink()
        with pytest.raises(CommandFailed, match=r"other/credentials.toml: No such file or directory"):
            development.prepare(folder, logins=[], now=NOW, environ=environ)

    def test_the_stacks_own_file_may_be_named_too(self, folder: Path) -> None:
        environ = {"TIDEGATE_CREDENTIALS": str(folder / development.CREDENTIALS)}
        made = development.prepare(folder, logins=[], now=NOW, environ=environ)
        assert made.credentials == folder / development.CREDENTIALS


def test_each_archived_topic_has_a_process_behind_all_others() -> None:
    """So the known ports of the others stay what they are."""
    without, archiving = services.services(["default"]), services.services(["default"], archived=["user.events"])
    assert archiving[:-1] == without
    assert archiving[-1].name == "archive.user.events"
    assert archiving[-1].command == ("processors", "archive", "--topic", "user.events")

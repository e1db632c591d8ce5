"""Every process of the list is run by each deployment, and can be run at all."""

import re
from pathlib import Path

import pytest
import yaml

from deploy.local.services import EXECUTOR_MARGIN_S
from processors.app import PROCESSES as PROCESSORS
from processors.jobs.executor.config import ExecutorSettings
from schemas.process.settings import declarations
from schemas.process.specs import PROCESSES, ProcessSpec
from tests.support.compose import services

COMPOSE = Path(__file__).parents[3] / "docker-compose.yml"
RUN_BY_THE_IMAGE = ("gateway",)  # when it is given no command
MEMBERS = {"archive": "user.events"}


@pytest.mark.parametrize("spec", PROCESSES, ids=lambda spec: spec.name)
def test_compose_runs_it(spec: ProcessSpec) -> None:
    wanted = spec if spec.member_option is None else spec.of_member(MEMBERS.get(spec.name, "default"))
    service = services(COMPOSE, {})[spec.name]
    command = ("python", "-m", *RUN_BY_THE_IMAGE) if service.command is None else tuple(service.command)
    assert command == ("python", "-m", *wanted.command)
    assert ("TIDEGATE_POSTGRES" in service.environment) == (spec.database_role is not None)
    assert ("TIDEGATE_KAFKA" in service.environment) == spec.has_log
    assert spec.has_log or not any("credentials" in mount.target for mount in service.mounts)


def test_compose_waits_for_an_executor_longer_than_its_drain() -> None:
    executor = yaml.safe_load(COMPOSE.read_text())["services"]["executor"]
    [drain_s] = [each.default for each in declarations(ExecutorSettings) if each.name == "drain_s"]
    assert int(executor["stop_grace_period"].removesuffix("s")) > drain_s + EXECUTOR_MARGIN_S
    assert executor["init"] is True  # what tasks leave behind has somebody to end it


def test_a_login_is_a_name_that_needs_no_quotes() -> None:
    assert all(re.fullmatch(r"[a-z_]+", spec.login) for spec in PROCESSES)


def test_each_processor_is_in_the_list() -> None:
    assert {spec.command[1] for spec in PROCESSES if spec.command[0] == "processors"} == PROCESSORS.keys()

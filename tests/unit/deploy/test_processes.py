"""Every process of the list is run by each deployment, and can be run at all."""

from pathlib import Path

import pytest

from processors.app import PROCESSES as PROCESSORS
from schemas.process.specs import PROCESSES, ProcessSpec
from tests.support.compose import services

COMPOSE = Path(__file__).parents[3] / "docker-compose.yml"
RUN_BY_THE_IMAGE = ("gateway",)  # when it is given no command


@pytest.mark.parametrize("spec", PROCESSES, ids=lambda spec: spec.name)
def test_compose_runs_it(spec: ProcessSpec) -> None:
    wanted = spec.of_endpoint("default", is_only=True) if spec.is_per_endpoint else spec
    service = services(COMPOSE, {})[spec.name]
    command = ("python", "-m", *RUN_BY_THE_IMAGE) if service.command is None else tuple(service.command)
    assert command == ("python", "-m", *wanted.command)
    assert ("TIDEGATE_POSTGRES" in service.environment) == (spec.database_role is not None)


def test_each_processor_is_in_the_list() -> None:
    assert {spec.command[1] for spec in PROCESSES if spec.command[0] == "processors"} == PROCESSORS.keys()

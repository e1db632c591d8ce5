"""
The addresses that a command uses: settings first, then the `stack.json` of `--dir`.

TIDEGATE_KAFKA, TIDEGATE_POSTGRES, TIDEGATE_GATEWAY, TIDEGATE_WEBSOCKET and TIDEGATE_API_KEY each replace one address,
so that the same commands serve an existing deployment.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.admin import reach
from deploy.admin.credentials import agent_named
from deploy.admin.credentials import read as read_credentials
from deploy.errors import CommandFailed, NotReachable
from deploy.local import settings_file, stack_file
from deploy.local.settings_file import credentials_path
from schemas.kafka.connection import KafkaSettings

Address = Literal["postgres", "gateway", "websocket", "api_key", "agent_id", "agent_secret"]

SETTINGS: Mapping[Address, str] = {
    "postgres": "TIDEGATE_POSTGRES",
    "gateway": "TIDEGATE_GATEWAY",
    "websocket": "TIDEGATE_WEBSOCKET",
    "api_key": "TIDEGATE_API_KEY",
    "agent_id": "TIDEGATE_AGENT_ID",
    "agent_secret": "TIDEGATE_AGENT_SECRET",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The known addresses; None if neither a setting nor a running stack gives one."""

    folder: Path
    kafka: KafkaSettings | None
    postgres: str | None
    gateway: str | None
    websocket: str | None
    api_key: str | None
    agent_id: str | None
    agent_secret: str | None

    def need(self, name: Address) -> str:
        """
        Return the address called *name*.

        Raises:
            NotReachable: it is not known; the text says how to make it known.
        """
        value: str | None = getattr(self, name)
        if value is None:
            raise self._unknown(SETTINGS[name])
        return value

    def need_kafka(self) -> KafkaSettings:
        """
        Return how to connect to Kafka.

        Raises:
            NotReachable: it is not known, or no broker answers; the text says what to do.
        """
        if self.kafka is None:
            raise self._unknown("TIDEGATE_KAFKA")
        reach.need_kafka(self.kafka)
        return self.kafka

    def _unknown(self, setting: str) -> NotReachable:
        return NotReachable(f"no stack runs in {self.folder}: start one with `tidegate up` or set {setting}")


def read(folder: Path, environ: Mapping[str, str]) -> Addresses:
    """Return the addresses in force for a command that was given `--dir` *folder*."""
    stack = stack_file.read(folder)
    found: dict[Address, str | None] = {
        name: environ.get(variable) or (getattr(stack, name) if stack else None) for name, variable in SETTINGS.items()
    }
    return Addresses(folder=folder, kafka=settings_file.kafka(folder, environ), **found)


def kafka(folder: Path) -> KafkaSettings:
    """Return how a command that needs nothing else connects to Kafka. Raises NotReachable: see `need_kafka`."""
    return read(folder, os.environ).need_kafka()


def agent_secret(known: Addresses, environ: Mapping[str, str], agent_id: str, *, tenant: str | None) -> str:
    """
    Return the secret that *agent_id* signs with.

    It is TIDEGATE_AGENT_SECRET, else its newest in the credentials file; without a file, that of a stack's own agent.

    Raises:
        CommandFailed: there is no such agent, several tenants have it, or it has no secret.
    """
    if given := environ.get("TIDEGATE_AGENT_SECRET"):
        return given
    path = credentials_path(known.folder, environ)
    if not path.exists() and agent_id == known.agent_id and known.agent_secret is not None:
        return known.agent_secret
    tenant_id, agent = agent_named(read_credentials(path), agent_id, tenant, path=path)
    if not agent.secrets:
        raise CommandFailed(f"agent {agent_id} of tenant {tenant_id} has no secret: its events are sent unsigned")
    return agent.secrets[0]

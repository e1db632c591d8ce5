"""`<dir>/settings.json`, mode 0600: what each service was told; `tidegate config show` reads it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from deploy.local import development, stack_file
from deploy.local.stack_file import Stack
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import load

NAME = "settings.json"
PREFIX = "TIDEGATE_"


def write(folder: Path, by_service: Mapping[str, Mapping[str, str]], environ: Mapping[str, str]) -> None:
    """Keep what each service is told, by the stack and by the environment that it inherits."""
    inherited = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    with os.fdopen(os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({service: {**inherited, **settings} for service, settings in by_service.items()}, file)


def credentials_path(folder: Path, environ: Mapping[str, str]) -> Path:
    """Return where the credentials are: as *environ* says, else as the stack that runs in *folder* was told."""
    told: str | None = environ.get("TIDEGATE_CREDENTIALS")
    if not told and stack_file.read(folder) is not None:
        told = (read(folder) or {}).get("gateway", {}).get("TIDEGATE_CREDENTIALS")
    return Path(told) if told else folder / development.CREDENTIALS


def kafka(folder: Path, environ: Mapping[str, str]) -> KafkaSettings | None:
    """
    Return the connection settings of *environ*, else those of the stack that runs in *folder*; None without either.

    Raises:
        SettingsInvalid: *environ* cannot be used.
    """
    if environ.get("TIDEGATE_KAFKA"):
        return load(KafkaSettings, environ)
    stack = stack_file.read(folder)
    return None if stack is None else kafka_of(stack, folder)


def kafka_of(stack: Stack, folder: Path) -> KafkaSettings:
    """Return how the *stack* that runs in *folder* connects to Kafka."""
    told = next(iter((read(folder) or {}).values()), {})
    return load(KafkaSettings, {**told, "TIDEGATE_KAFKA": stack.kafka})


def read(folder: Path) -> dict[str, dict[str, str]] | None:
    """Return the settings by service, or None if no stack has started here."""
    try:
        by_service: dict[str, dict[str, str]] = json.loads((folder / NAME).read_text())
    except FileNotFoundError:
        return None
    return by_service

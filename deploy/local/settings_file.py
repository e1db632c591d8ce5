"""`<dir>/settings.json`, mode 0600: what each service was told; `tidegate config show` reads it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

NAME = "settings.json"
PREFIX = "TIDEGATE_"


def write(folder: Path, by_service: Mapping[str, Mapping[str, str]], environ: Mapping[str, str]) -> None:
    """Keep what each service is told, by the stack and by the environment that it inherits."""
    inherited = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    with os.fdopen(os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({service: {**inherited, **settings} for service, settings in by_service.items()}, file)


def read(folder: Path) -> dict[str, dict[str, str]] | None:
    """The settings by service, or None if no stack has started here."""
    try:
        by_service: dict[str, dict[str, str]] = json.loads((folder / NAME).read_text())
    except FileNotFoundError:
        return None
    return by_service

"""A Compose file as its services, as far as ours uses the format; anything else is refused, not skipped."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KNOWN = {
    *("build", "image", "read_only", "cap_drop", "security_opt", "restart", "stop_grace_period", "depends_on"),
    *("command", "entrypoint", "environment", "ports", "volumes", "profiles", "healthcheck"),
    *("init", "tmpfs"),
}
COMPLETED = "service_completed_successfully"
STARTED = "service_started"
OUTSIDE = re.compile(r"[./~]")  # how the source of a mount begins that is no volume's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A volume by its name, or a path of the machine, and where it is mounted."""

    source: str
    target: str
    read_only: bool

    @property
    def is_volume(self) -> bool:
        """Return True if the engine keeps it."""
        return not OUTSIDE.match(self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service that is built from our image."""

    name: str
    command: Sequence[str] | None
    entrypoint: Sequence[str]
    environment: Mapping[str, str]
    mounts: Sequence[Mount]
    depends_on: Mapping[str, str]  # a service, and the condition that it must meet
    profiles: Sequence[str]
    read_only: bool
    has_healthcheck: bool
    tmpfs: Sequence[str]  # folders that are writable, and empty at each start


def services(path: Path, environ: Mapping[str, str]) -> dict[str, Service]:
    """Return the services of the Compose file at *path* that run our image, variables taken from *environ*."""
    document = yaml.safe_load(path.read_text())
    volumes = set(document["volumes"])
    found = {name: _service(name, given, environ) for name, given in document["services"].items() if "build" in given}
    for service in found.values():
        for mount in service.mounts:
            assert not mount.is_volume or mount.source in volumes, f"{mount.source} is declared under volumes"
    return found


def in_order(found: Mapping[str, Service], wanted: Iterable[str]) -> list[Service]:
    """Return the services *wanted* and those that they depend on, each after what it depends on."""
    ordered: dict[str, Service] = {}

    def add(name: str) -> None:
        if name in found and name not in ordered:
            for other in found[name].depends_on:
                add(other)
            ordered[name] = found[name]

    for name in wanted:
        add(name)
    return list(ordered.values())


def _service(name: str, given: Mapping[str, Any], environ: Mapping[str, str]) -> Service:
    unknown = set(given) - KNOWN
    assert not unknown, f"service {name} has {unknown}, which the emulation does not know"
    environment = {}
    for variable, value in given.get("environment", {}).items():
        if value is not None:
            environment[variable] = _interpolated(str(value), environ)
        elif variable in environ:  # handed on where it is set
            environment[variable] = environ[variable]
    mounts = [_mount(_interpolated(text, environ)) for text in given.get("volumes", [])]
    return Service(
        name=name,
        command=given.get("command"),
        entrypoint=given.get("entrypoint", []),
        environment=environment,
        mounts=mounts,
        depends_on={other: how["condition"] for other, how in given.get("depends_on", {}).items()},
        profiles=given.get("profiles", []),
        read_only=given.get("read_only", False),
        has_healthcheck=not given.get("healthcheck", {}).get("disable", False),
        tmpfs=given.get("tmpfs", []),
    )


def _mount(text: str) -> Mount:
    source, target, *options = text.split(":")
    assert options in ([], ["ro"]), text
    return Mount(source=source, target=target, read_only=options == ["ro"])


def _interpolated(text: str, environ: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        return environ.get(found["name"]) or found["default"] or ""

    return re.sub(r"\$\{(?P<name>\w+)(:-(?P<default>[^}]*))?\}", value, text)

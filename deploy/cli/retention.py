"""`tidegate retention plan|run`: what the retention file would remove, and removing it now."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes
from deploy.cli.output import console, print_json, print_rows
from deploy.errors import CommandFailed, NotReachable
from deploy.local import settings_file
from schemas.process.interpreter import module_command, module_environment

SERVICE = "maintenance"
NEEDED = ("TIDEGATE_KAFKA", "TIDEGATE_POSTGRES")
RETENTION = "TIDEGATE_RETENTION"
COLUMNS = ("runs", "events", "rejected", "objects", "bytes")


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="How long what is kept: what would go, and removing it.")
    group.command("plan")(plan)
    group.command("run")(run)
    app.add_typer(group, name="retention")


def plan(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Count, by tenant, what the retention file says is to go now. Removes nothing."""
    settings = _settings(folder)
    report = _carry_out(settings, "--dry-run")
    if as_json:
        print_json(report)
        return
    _print(report, settings, otherwise="nothing would go")


def run(folder: Dir = DEFAULT_DIR, *, yes: Yes = False, as_json: Json = False) -> None:
    """Remove what `tidegate retention plan` shows, once; the process `maintenance` does it by itself periodically."""
    settings = _settings(folder)
    if not yes:
        _print(_carry_out(settings, "--dry-run"), settings, otherwise="nothing would go")
        typer.confirm("Remove this for good?", abort=True)
    report = _carry_out(settings)
    if as_json:
        print_json(report)
        return
    _print(report, settings, otherwise="nothing was to go")


def _carry_out(settings: Mapping[str, str], *options: str) -> dict[str, Any]:
    """Return the report of one pass, carried out by the maintenance process itself."""
    done = subprocess.run(
        module_command("processors", SERVICE, "--once", *options),
        env=module_environment() | dict(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailed(f"nothing more was removed: {_reason(done.stderr)} (exit {done.returncode})")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _reason(log: str) -> str:
    """Return what the process said last of why it did not start."""
    lines = log.strip().splitlines()
    try:
        return str(json.loads(lines[-1])["error"])
    except (IndexError, KeyError, ValueError):
        return "\n".join(lines[-5:]) or "the process ended without a word"


def _settings(folder: Path) -> Mapping[str, str]:
    """Return the settings of the process: those of the environment, else those of the stack in *folder*."""
    told = (settings_file.read(folder) or {}).get(SERVICE, {})
    settings = told | {name: value for name, value in os.environ.items() if name.startswith(settings_file.PREFIX)}
    if missing := [name for name in NEEDED if not settings.get(name)]:
        raise NotReachable(f"no stack runs in {folder}: start one with `tidegate up` or set {', '.join(missing)}")
    return settings


def _print(report: Mapping[str, Any], settings: Mapping[str, str], *, otherwise: str) -> None:
    tenants: Mapping[str, Mapping[str, int]] = report["tenants"]
    if not tenants:
        file = settings.get(RETENTION)
        said = f"as {file} says" if file else f"{RETENTION} names no file: everything is kept"
        console.print(f"{otherwise} ({said})", markup=False, soft_wrap=True)
    print_rows(
        [{"tenant": tenant} | {name: gone[name] for name in COLUMNS} for tenant, gone in sorted(tenants.items())],
        as_json=False,
    )
    for what, held in (("runs", report["held_runs"]), ("rejected records", report["held_rejected"])):
        if held:
            console.print(f"{held} {what} stay for now: a consumer group has yet to pass them")
    if report["held_objects"]:
        console.print(f"objects stay for now: {report['held_objects']}")

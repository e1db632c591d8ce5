"""`tidegate schemas list|show|check`: the records' Avro schemas, from the registry file in the code."""

from collections.abc import Mapping
from typing import Annotated

import typer

from deploy.cli.options import Json
from deploy.cli.output import print_json, print_rows
from deploy.errors import CommandFailed
from schemas.kafka import registry
from schemas.kafka.compatibility import incompatibilities

INCOMPATIBLE = "incompatible"


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="The records' Avro schemas.")
    group.command("list")(list_schemas)
    group.command("show")(show)
    group.command("check")(check)
    app.add_typer(group, name="schemas")


def list_schemas(*, as_json: Json = False) -> None:
    """List every released version."""
    rows = [
        {"id": entry.id, "subject": entry.subject, "version": entry.version, "record": entry.record_name}
        for entry in registry.released()
    ]
    print_rows(rows, as_json=as_json)


def show(
    name: Annotated[str, typer.Argument(help="A schema id, a subject, or a record's full name.")],
    *,
    as_json: Json = False,  # noqa: ARG001  # a schema is JSON with and without it
) -> None:
    """Print one schema as JSON: of a subject or a record the newest version."""
    for entry in reversed(registry.released()):
        if name in (str(entry.id), entry.subject, entry.record_name):
            print_json(entry.schema)
            return
    raise CommandFailed(f"no schema {name}; `tidegate schemas list` names them")


def check(*, as_json: Json = False) -> None:
    """Check if the current schemas may be released: new readers must read old records."""
    released = registry.last_released()
    rows = [{"record": name, **_state(schema, released.get(name))} for name, schema in registry.working().items()]
    print_rows(rows, as_json=as_json)
    if any(row["state"] == INCOMPATIBLE for row in rows):
        raise CommandFailed("a changed schema cannot read the records of its last released version")


def _state(schema: Mapping[str, object], released: registry.ReleasedSchema | None) -> dict[str, object]:
    if released is None:
        return {"state": "new", "released_id": None, "faults": []}
    faults = [] if schema == released.schema else incompatibilities(schema, released.schema)
    state = "released" if schema == released.schema else INCOMPATIBLE if faults else "changed"
    return {"state": state, "released_id": released.id, "faults": faults}

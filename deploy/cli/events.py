"""`tidegate events list|show`: user events, as the API has them."""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
import typer

from deploy.admin.gateway import GatewayCalls
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, plain, print_json, print_rows, table

LISTED = 20
PAGE_MAX = 500
SHOWN = ("received_at", "event_id", "user_id", "type", "name", "status", "wal_id")


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="User events: what is stored of them.")
    group.command("list")(list_events)
    group.command("show")(show)
    app.add_typer(group, name="events")


def list_events(
    *,
    folder: Dir = DEFAULT_DIR,
    user: Annotated[str | None, typer.Option(help="Only events of this user.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
    status: Annotated[str | None, typer.Option(help="Only pending, processed or failed ones.")] = None,
    where: Annotated[
        str | None, typer.Option("--property", metavar="PATH=VALUE", help="Only events with this property.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = LISTED,
    as_json: Json = False,
) -> None:
    """List user events, the newest first."""
    query = {"user_id": user, "type": kind, "status": status, "property": where}
    asked = {name: value for name, value in query.items() if value is not None}
    found = _calls(folder).listed("/api/v1/events", "events", asked, count=count, page_max=PAGE_MAX)
    if as_json:
        print_json(found)
    else:
        print_rows([{name: event[name] for name in SHOWN} for event in found], as_json=False)


def show(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event.")],
    folder: Dir = DEFAULT_DIR,
    *,
    as_json: Json = False,
) -> None:
    """Show one user event: what was sent, and what became of it."""
    event = _calls(folder).found(f"/api/v1/events/{quote(event_id, safe='')}", f"event {event_id}")
    if as_json:
        print_json(event)
        return
    console.print(table(("event", plain(event_id)), ((name, _cell(value)) for name, value in event.items())))


def _cell(value: object) -> object:
    """Return *value* as a cell: documents as their JSON text."""
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


def _calls(folder: Path) -> GatewayCalls:
    known = addresses.read(folder, os.environ)
    return GatewayCalls(known.need("gateway"), api_key=known.need("api_key"))

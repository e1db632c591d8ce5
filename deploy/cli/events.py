"""`tidegate events list|show`: user events, as the API has them."""

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec
import typer

from deploy.admin.gateway import GatewayReads
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, plain, print_json, print_rows, table
from deploy.errors import CommandFailed

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
    reads = _reads(folder)
    query = {"user_id": user, "type": kind, "status": status, "property": where}
    asked = {name: value for name, value in query.items() if value is not None}
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None and len(found) < count:
        page = {"limit": str(min(count - len(found), PAGE_MAX))} | ({"cursor": cursor} if cursor else {})
        document = msgspec.json.decode(reads.read(f"/api/v1/events?{urlencode(asked | page)}") or b"{}")
        found += document.get("events", [])
        cursor = document.get("next_cursor")
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
    found = _reads(folder).read(f"/api/v1/events/{quote(event_id, safe='')}")
    if found is None:
        raise CommandFailed(f"the tenant of this key has no event {event_id}")
    event: dict[str, Any] = msgspec.json.decode(found)
    if as_json:
        print_json(event)
        return
    console.print(table(("event", plain(event_id)), ((name, _cell(value)) for name, value in event.items())))


def _cell(value: object) -> object:
    """Return *value* as a cell: documents as their JSON text."""
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


def _reads(folder: Path) -> GatewayReads:
    known = addresses.read(folder, os.environ)
    return GatewayReads(known.need("gateway"), api_key=known.need("api_key"))

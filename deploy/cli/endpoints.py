"""`tidegate endpoints list|enable`: where events are sent as webhooks, and how each endpoint is doing."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from deploy.admin import topics
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, print_json, print_rows
from deploy.errors import CommandFailed
from deploy.log.endpoints import endpoint_states
from deploy.log.writing import Writer
from schemas.pacing.breaker import BreakerState
from schemas.runs.codec import STATE_CODEC
from schemas.runs.records import EndpointState
from schemas.runs.topics import ENDPOINT_STATES, endpoint_of

ENABLED = "enabled by an operator"


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Webhook endpoints.")
    group.command("list")(list_endpoints)
    group.command("enable")(enable)
    app.add_typer(group, name="endpoints")


def list_endpoints(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """List the endpoints, what each is sent, and the state of its breaker."""
    kafka = addresses.kafka(folder)
    states = endpoint_states(kafka)
    names = [name for group in topics.groups_of(kafka) if (name := endpoint_of(group)) is not None]
    rows = [_row(name, states.get(name)) for name in names]
    print_rows(rows, as_json=as_json, absent={"tenant": "all"})


def enable(
    name: Annotated[str, typer.Argument(help="An endpoint that answered 410 and was disabled.")],
    folder: Dir = DEFAULT_DIR,
    *,
    as_json: Json = False,
) -> None:
    """Send to a disabled endpoint again; what came meanwhile has waited."""
    kafka = addresses.kafka(folder)
    state = endpoint_states(kafka).get(name)
    if state is None or state.breaker is not BreakerState.DISABLED:
        raise CommandFailed(f"endpoint {name} is not disabled; `tidegate endpoints list` shows the state of each")
    enabled = msgspec.structs.replace(state, breaker=BreakerState.CLOSED, reason=ENABLED, since=datetime.now(UTC))
    Writer(kafka).write(ENDPOINT_STATES, [(name.encode(), STATE_CODEC.encode(enabled), [])])
    if as_json:
        print_json({"endpoint": name, "breaker": enabled.breaker, "since": enabled.since})
    else:
        console.print(f"{name} is sent to again")


def _row(name: str, state: EndpointState | None) -> dict[str, object]:
    return {
        "endpoint": name,
        "tenant": None if state is None else state.tenant,  # None: of all tenants
        "types": None if state is None else list(state.types),
        "breaker": None if state is None else state.breaker.value,
        "since": None if state is None else state.since,
        "reason": None if state is None else state.reason,
    }

"""`tidegate agents add|list|rotate|remove`: the agents in the credentials file, and the secrets they sign with."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from deploy.admin.credentials import NotWritten, agent_named, change, read, tenant_named
from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes
from deploy.cli.output import console, print_json, print_rows
from deploy.errors import CommandFailed
from deploy.local.settings_file import credentials_path
from schemas.access import credentials
from schemas.access.credentials import Agent, Credentials, fields
from schemas.ids import is_id
from schemas.process import toml_text

SECRETS_MAX = 2  # the newest, and the one before it until every process of the agent has the newest

Name = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Whose agent; may be left out where there is one.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Agents: whose events a tenant sends, and how they sign them.")
    group.command("add")(add)
    group.command("list")(list_agents)
    group.command("rotate")(rotate)
    group.command("remove")(remove)
    app.add_typer(group, name="agents")


def add(
    name: Name,
    tenant: OfTenant = None,
    folder: Dir = DEFAULT_DIR,
    *,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Without a secret: the agent does not sign its events.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add an agent and print the secret that it must sign its events with."""
    if not is_id(name):
        raise typer.BadParameter(f"{name!r}: an agent's id is 1 to 128 of A-Z, a-z, 0-9 and . _ : -, not . or ..")
    path = credentials_path(folder, os.environ)
    tenant_id, _ = tenant_named(read(path), tenant, path=path)
    made = Agent(secrets=[] if unsigned else [credentials.new_secret()])

    def edit(found: Credentials) -> Credentials:
        _, of = tenant_named(found, tenant_id, path=path)
        if name in of.agents:
            raise CommandFailed(
                f"tenant {tenant_id} has an agent {name} already; `tidegate agents rotate` renews its secret"
            )
        return _with_agents(found, tenant_id, {**of.agents, name: made})

    by_hand = _change(path, edit, tenant_id=tenant_id, name=name, agent=made)
    secret = None if unsigned else made.secrets[0]
    _report({"tenant": tenant_id, "agent": name, "secret": secret}, by_hand, path=path, as_json=as_json)


def list_agents(tenant: OfTenant = None, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """List the agents; with two secrets one is being rotated. The secrets are not shown."""
    path = credentials_path(folder, os.environ)
    found = read(path)
    if tenant is not None:
        tenant_named(found, tenant, path=path)
    rows = [
        {"tenant": tenant_id, "agent": name, "signs": bool(agent.secrets), "secrets": len(agent.secrets)}
        for tenant_id, of in found.tenants.items()
        if tenant in (None, tenant_id)
        for name, agent in of.agents.items()
    ]
    print_rows(rows, as_json=as_json)


def rotate(
    name: Name,
    tenant: OfTenant = None,
    folder: Dir = DEFAULT_DIR,
    *,
    finish: Annotated[
        bool, typer.Option("--finish", help="Once the agent signs with the new secret: refuse the old one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Give an agent a new secret and print it; the one before it stays valid until `--finish`, or the next rotation.

    A secret that is known to strangers: rotate and finish at once.
    """
    path = credentials_path(folder, os.environ)
    tenant_id, before = agent_named(read(path), name, tenant, path=path)
    if not before.secrets:
        raise CommandFailed(
            f"agent {name} has no secret; to make it sign, remove it and add it again without --unsigned"
        )
    fresh = credentials.new_secret()

    def renewed(agent: Agent) -> Agent:
        return Agent(secrets=agent.secrets[:1] if finish else [fresh, *agent.secrets][:SECRETS_MAX])

    def edit(found: Credentials) -> Credentials:
        _, agent = agent_named(found, name, tenant_id, path=path)
        return _with_agents(found, tenant_id, {**found.tenants[tenant_id].agents, name: renewed(agent)})

    by_hand = _change(path, edit, tenant_id=tenant_id, name=name, agent=renewed(before))
    secret = None if finish else fresh
    _report({"tenant": tenant_id, "agent": name, "secret": secret}, by_hand, path=path, as_json=as_json)


def remove(
    name: Name, tenant: OfTenant = None, folder: Dir = DEFAULT_DIR, *, yes: Yes = False, as_json: Json = False
) -> None:
    """Remove an agent: its events are refused from now on. What is stored of it stays."""
    path = credentials_path(folder, os.environ)
    tenant_id, _ = agent_named(read(path), name, tenant, path=path)
    if not yes:
        typer.confirm(f"Remove agent {name} of tenant {tenant_id} from {path}?", abort=True)

    def edit(found: Credentials) -> Credentials:
        of = found.tenants[tenant_id].agents
        return _with_agents(found, tenant_id, {other: kept for other, kept in of.items() if other != name})

    change(path, edit)
    if as_json:
        print_json({"tenant": tenant_id, "agent": name, "removed": True})
    else:
        console.print(f"agent {name} of tenant {tenant_id} is refused from now on")


def _change(
    path: Path, edit: Callable[[Credentials], Credentials], *, tenant_id: str, name: str, agent: Agent
) -> str | None:
    """Change the file; where it cannot be written, return the entry of *agent* for a person to put there."""
    try:
        change(path, edit)
    except NotWritten:
        return toml_text.new({"tenants": {tenant_id: {"agents": {name: fields(agent)}}}})
    return None


def _report(done: Mapping[str, str | None], by_hand: str | None, *, path: Path, as_json: bool) -> None:
    if as_json:
        print_json({**done, "entry_to_add": by_hand})
        return
    if done["secret"] is not None:
        console.print(done["secret"], soft_wrap=True)
    elif by_hand is None:
        console.print(
            f"agent {done['agent']} of tenant {done['tenant']} is changed in {path}", markup=False, soft_wrap=True
        )
    if by_hand is not None:
        console.print(f"{path} cannot be written; make this its entry:\n\n{by_hand}", markup=False, soft_wrap=True)


def _with_agents(found: Credentials, tenant_id: str, agents: Mapping[str, Agent]) -> Credentials:
    changed = msgspec.structs.replace(found.tenants[tenant_id], agents=dict(agents))
    return msgspec.structs.replace(found, tenants={**found.tenants, tenant_id: changed})

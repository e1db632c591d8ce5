"""
`tidegate keys init|create|list|revoke`: the credentials file and the API keys in it.

The file keeps its owner, group and mode. Where it cannot be written (a mounted secret), `create` prints the entry to
add.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from deploy.admin.credentials import NotWritten, change, read, tenant_named
from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes
from deploy.cli.output import console, print_json, print_rows
from deploy.errors import CommandFailed
from deploy.local.development import PLAIN_AGENT, SIGNING_AGENT, TENANT
from deploy.local.settings_file import credentials_path
from schemas.access import credentials
from schemas.access.credentials import Agent, ApiKey, Credentials, CredentialsInvalid, Gateway, Right, Tenant, fields
from schemas.process import toml_text


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="API keys.")
    group.command("init")(init)
    group.command("create")(create)
    group.command("list")(list_keys)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")


def init(
    tenant: Annotated[str, typer.Option(help="The tenant to begin with.")] = TENANT,
    folder: Dir = DEFAULT_DIR,
    *,
    as_json: Json = False,
) -> None:
    """
    Create a credentials file unless one exists: new secrets, one tenant, a signing agent and an unsigned one.

    A file that exists is only checked.
    """
    path = credentials_path(folder, os.environ)
    is_new = not _exists(path)
    if is_new:
        try:
            change(path, lambda found: found, new=new_credentials(tenant))
        except CredentialsInvalid as error:
            raise typer.BadParameter(f"--tenant {tenant!r}: {error}") from error
        except NotWritten as error:
            who = f"its folder must belong to user {os.geteuid()}, as which this command runs"
            raise CommandFailed(f"{error}; {who}") from error
    tenants = read(path).tenants
    if as_json:
        print_json({"file": str(path), "created": is_new, "tenants": list(tenants)})
        return
    console.print(f"{path} {'was created' if is_new else 'exists'}; tenants: {', '.join(tenants)}", soft_wrap=True)


def create(
    tenant: Annotated[str, typer.Option(help="Whose key it is.")],
    rights: Annotated[list[Right], typer.Option("--right", help="What it may do; may be repeated.")],
    agents: Annotated[
        list[str] | None, typer.Option("--agent", help="The only agents it may speak for; may be repeated.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="It expires after so many days.")] = None,
    folder: Dir = DEFAULT_DIR,
    *,
    as_json: Json = False,
) -> None:
    """Create a key and print it: it is not shown again, because only its hash is kept."""
    path, now = credentials_path(folder, os.environ), datetime.now(UTC)
    _, of = tenant_named(read(path), tenant, path=path)
    if unknown := [agent for agent in agents or () if agent not in of.agents]:
        known = ", ".join(of.agents) or "none"
        raise CommandFailed(f"no such agent: tenant {tenant} has no agent {', '.join(unknown)}; it has: {known}")
    key_id, key, entry = credentials.new_key(
        tenant=tenant, rights=rights, agents=agents, now=now, expires_at=now + timedelta(days=days) if days else None
    )
    try:
        change(path, lambda found: msgspec.structs.replace(found, keys={**found.keys, key_id: entry}))
        text = ""
    except NotWritten:
        text = entry_text(key_id, entry)
    if as_json:
        print_json({"id": key_id, "key": key, "entry_to_add": text or None})
        return
    console.print(key, soft_wrap=True)
    if text:
        console.print(f"{path} cannot be written; add this entry to it:\n\n{text}", markup=False, soft_wrap=True)


def list_keys(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """List the keys by id; the keys themselves are not known."""
    rows = [
        {
            "id": key_id,
            "tenant": key.tenant,
            "rights": key.rights,
            "agents": key.agents,  # None: all
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "revoked_at": key.revoked_at,
        }
        for key_id, key in read(credentials_path(folder, os.environ)).keys.items()
    ]
    print_rows(rows, as_json=as_json, absent={"agents": "all"})


def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id: the part between the underscores.")],
    folder: Dir = DEFAULT_DIR,
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Refuse a key from now on."""
    path = credentials_path(folder, os.environ)
    current = read(path)
    if key_id not in current.keys:
        raise CommandFailed(f"{path} has no key {key_id}; `tidegate keys list` names them")
    if not yes:
        typer.confirm(f"Refuse key {key_id} of tenant {current.keys[key_id].tenant} from now on?", abort=True)
    now = datetime.now(UTC)

    def edit(found: Credentials) -> Credentials:
        revoked = msgspec.structs.replace(found.keys[key_id], revoked_at=now)
        return msgspec.structs.replace(found, keys={**found.keys, key_id: revoked})

    try:
        change(path, edit)
    except NotWritten as error:
        raise CommandFailed(f"{error}; set revoked_at of [keys.{key_id}] in it yourself") from error
    if as_json:
        print_json({"id": key_id, "revoked_at": now})
    else:
        console.print(f"{key_id} is refused from now on")


def entry_text(key_id: str, entry: ApiKey) -> str:
    """Return the TOML entry of one key."""
    return toml_text.new({"keys": {key_id: fields(entry)}})


def new_credentials(tenant: str) -> Credentials:
    """
    Return the first content of a file: one tenant, an agent that signs and one that does not.

    Raises:
        CredentialsInvalid: *tenant* cannot be a tenant's name.
    """
    agents = {SIGNING_AGENT: Agent(secrets=[credentials.new_secret()]), PLAIN_AGENT: Agent()}
    gateway = Gateway(mac_secrets=[credentials.new_secret()])
    return credentials.parse(credentials.dump(Credentials(gateway=gateway, tenants={tenant: Tenant(agents=agents)})))


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:  # a closed folder above it: reading it says so
        return True
    return True

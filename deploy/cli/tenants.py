"""`tidegate tenants add|list|remove`: the tenants in the credentials file."""

import os
from typing import Annotated

import msgspec
import typer

from deploy.admin.credentials import change, read, tenant_named
from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes
from deploy.cli.output import console, print_json, print_rows
from deploy.errors import CommandFailed
from deploy.local.settings_file import credentials_path
from schemas.access import credentials
from schemas.access.credentials import Credentials, Gateway, Tenant, is_name

Name = Annotated[str, typer.Argument(metavar="NAME", help="The tenant.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Tenants: who keys and agents belong to.")
    group.command("add")(add)
    group.command("list")(list_tenants)
    group.command("remove")(remove)
    app.add_typer(group, name="tenants")


def add(
    name: Name,
    folder: Dir = DEFAULT_DIR,
    *,
    allow_unsigned_direct: Annotated[
        bool,
        typer.Option("--allow-unsigned-direct", help="Accept unsigned records written to Kafka directly."),
    ] = False,
    events_per_min: Annotated[
        int | None, typer.Option(min=1, help="How many events each gateway accepts a minute; without it no limit.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add a tenant. Where there is no credentials file yet, one is made, with a secret for the gateways."""
    if not is_name(name):
        raise typer.BadParameter(f"{name!r}: a tenant's name is 1 to 128 of A-Z, a-z, 0-9 and . _ : -")
    path = credentials_path(folder, os.environ)
    made = Tenant(allow_unsigned_direct=allow_unsigned_direct, events_per_min=events_per_min)

    def edit(found: Credentials) -> Credentials:
        if name in found.tenants:
            raise CommandFailed(f"{path} has a tenant {name} already")
        return msgspec.structs.replace(found, tenants={**found.tenants, name: made})

    change(path, edit, new=Credentials(gateway=Gateway(mac_secrets=[credentials.new_secret()])))
    if as_json:
        print_json({"tenant": name, "file": path})
        return
    console.print(f"tenant {name} is in {path}", markup=False, soft_wrap=True)


def list_tenants(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """List the tenants, with how many agents and keys each has."""
    found = read(credentials_path(folder, os.environ))
    rows = [
        {
            "tenant": name,
            "agents": len(tenant.agents),
            "keys": sum(key.tenant == name for key in found.keys.values()),
            "allow_unsigned_direct": tenant.allow_unsigned_direct,
            "events_per_min": tenant.events_per_min,
        }
        for name, tenant in found.tenants.items()
    ]
    print_rows(rows, as_json=as_json)


def remove(name: Name, folder: Dir = DEFAULT_DIR, *, yes: Yes = False, as_json: Json = False) -> None:
    """Remove a tenant with its agents and keys. What is stored of its runs stays."""
    path = credentials_path(folder, os.environ)
    found = read(path)
    _, tenant = tenant_named(found, name, path=path)
    key_ids = [key_id for key_id, key in found.keys.items() if key.tenant == name]
    if not yes:
        typer.confirm(
            f"Remove tenant {name} with {len(tenant.agents)} agents and {len(key_ids)} keys from {path}?", abort=True
        )

    def edit(current: Credentials) -> Credentials:
        return msgspec.structs.replace(
            current,
            tenants={other: kept for other, kept in current.tenants.items() if other != name},
            keys={key_id: key for key_id, key in current.keys.items() if key.tenant != name},
        )

    change(path, edit)
    if as_json:
        print_json({"tenant": name, "removed_agents": list(tenant.agents), "removed_keys": key_ids})
        return
    console.print(f"tenant {name} is removed, with {len(tenant.agents)} agents and {len(key_ids)} keys")

"""
`tidegate keys create|list|revoke`: the API keys in the credentials file.

The file is TIDEGATE_CREDENTIALS, else the one of the stack in `--dir`. Where it cannot be written (a mounted
secret), `create` prints the entry to add.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import tomli_w
import typer

from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes
from deploy.cli.output import console, print_json, print_rows
from deploy.errors import Failed
from deploy.local.development import CREDENTIALS
from schemas import credentials
from schemas.credentials import ApiKey, Credentials, CredentialsInvalid, Right


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="API keys.")
    group.command("create")(create)
    group.command("list")(list_keys)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")


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
    path, now = _path(folder), datetime.now(UTC)
    current = _read(path)
    if tenant not in current.tenants:
        raise Failed(
            f"{path} has no tenant {tenant}: add [tenants.{tenant}] to it; it has {', '.join(current.tenants)}"
        )
    key_id, key, entry = credentials.new_key(
        tenant=tenant, rights=rights, agents=agents, now=now, expires_at=now + timedelta(days=days) if days else None
    )
    try:
        credentials.write(path, msgspec.structs.replace(current, keys={**current.keys, key_id: entry}))
        text = ""
    except OSError:
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
            "rights": ", ".join(key.rights),
            "agents": ", ".join(key.agents) if key.agents is not None else "all",
            "created": key.created_at,
            "expires": key.expires_at,
            "revoked": key.revoked_at,
        }
        for key_id, key in _read(_path(folder)).keys.items()
    ]
    print_rows(rows, as_json=as_json)


def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id: the part between the underscores.")],
    folder: Dir = DEFAULT_DIR,
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Refuse a key from now on."""
    path = _path(folder)
    current = _read(path)
    if key_id not in current.keys:
        raise Failed(f"{path} has no key {key_id}; `tidegate keys list` names them")
    if not yes:
        typer.confirm(f"Refuse key {key_id} of tenant {current.keys[key_id].tenant} from now on?", abort=True)
    revoked = msgspec.structs.replace(current.keys[key_id], revoked_at=datetime.now(UTC))
    try:
        credentials.write(path, msgspec.structs.replace(current, keys={**current.keys, key_id: revoked}))
    except OSError as error:
        raise Failed(
            f"{path} cannot be written ({error.strerror}): set revoked_at of [keys.{key_id}] yourself"
        ) from error
    if as_json:
        print_json({"id": key_id, "revoked": revoked.revoked_at})
    else:
        console.print(f"{key_id} is refused from now on")


def entry_text(key_id: str, entry: ApiKey) -> str:
    """The TOML entry of one key."""
    fields = msgspec.to_builtins(entry, builtin_types=(datetime,))
    return tomli_w.dumps({"keys": {key_id: {name: value for name, value in fields.items() if value is not None}}})


def _path(folder: Path) -> Path:
    return Path(os.environ.get("TIDEGATE_CREDENTIALS") or folder / CREDENTIALS)


def _read(path: Path) -> Credentials:
    try:
        return credentials.parse(path.read_text())
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}; set TIDEGATE_CREDENTIALS or start a stack") from error
    except CredentialsInvalid as error:
        raise Failed(f"{path} cannot be used: {error}") from error

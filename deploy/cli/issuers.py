"""`tidegate issuers list|check`: the issuers of tokens, and whether a token would be taken."""

import os
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy.admin.credentials import read as read_credentials
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, print_json, print_rows, table
from deploy.errors import CommandFailed, NotReachable
from deploy.local.settings_file import credentials_path
from schemas.access import jwt
from schemas.access.issuers import Issuer
from schemas.access.jwt import Identity, Keys, KeysInvalid, TokenRefused

TIMEOUT_S = 5.0
BYTES_MAX = 256 * 1024
STDIN = "-"


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Issuers of users' tokens, as the credentials file has them.")
    group.command("list")(list_issuers)
    group.command("check")(check)
    app.add_typer(group, name="issuers")


def list_issuers(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """List the issuers."""
    issuers = read_credentials(credentials_path(folder, os.environ)).issuers
    rows = [
        {
            "issuer": name,
            "iss": issuer.iss,
            "audiences": issuer.audiences,
            "algorithms": [algorithm.value for algorithm in issuer.algorithms],
            "keys": "secret" if issuer.is_symmetric else issuer.jwks_file or issuer.jwks_url,
            "tenants": [issuer.tenant] if issuer.tenant is not None else issuer.tenants,
        }
        for name, issuer in issuers.items()
    ]
    print_rows(rows, as_json=as_json)


def check(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="A token; - reads it from stdin.")],
    folder: Dir = DEFAULT_DIR,
    *,
    as_json: Json = False,
) -> None:
    """
    Show the identity in a token, or the reason why the gateway would not accept it.

    Keys at an address are read from there, now.
    """
    text = (sys.stdin.read() if token == STDIN else token).strip()
    credentials = read_credentials(credentials_path(folder, os.environ))
    try:
        name, issuer = jwt.issuer_of(text, credentials.issuers)
        found = jwt.verify(text, name, issuer, _keys(name, issuer), now=datetime.now(UTC), denials=credentials.denied)
    except TokenRefused as error:
        if as_json:
            print_json({"valid": False, "detail": str(error)})
        raise CommandFailed(f"the token is not valid: {error}") from error
    shown = _shown(found)
    if as_json:
        print_json({"valid": True} | shown)
    else:
        console.print(table(("token", "valid"), shown.items()))


def _shown(found: Identity) -> dict[str, object]:
    return {
        "issuer": found.issuer,
        "tenant": found.tenant,
        "subject": found.subject,
        "scopes": None if found.scopes is None else sorted(found.scopes),
        "expires_at": datetime.fromtimestamp(found.expires_at_s, UTC),
    }


def _keys(name: str, issuer: Issuer) -> Keys:
    """Return the keys of an issuer. Raises CommandFailed, NotReachable."""
    if issuer.is_symmetric:
        return jwt.keys_of_secret(issuer)
    try:
        if issuer.jwks_url is not None:
            return jwt.keys_in(_fetched(issuer.jwks_url), issuer)
        return jwt.keys_in(Path(issuer.jwks_file or "").read_text(), issuer)
    except (KeysInvalid, UnicodeDecodeError) as error:
        raise CommandFailed(f"the keys of issuer {name} cannot be used: {error}") from error


def _fetched(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise CommandFailed(f"{url} is no http address")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  seen above
            body: bytes = answer.read(BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise NotReachable(f"{url} does not answer: {error}") from error
    if len(body) > BYTES_MAX:
        raise CommandFailed(f"{url} gives more than {BYTES_MAX} bytes")
    return body.decode()

"""
The development tenant and the secrets of a local stack, made at its first start and kept for the next.

`credentials.toml` is what the processes read; `secrets.json` (mode 0600) has what the stack itself must know
again: the passwords of Postgres's login roles and the API key, of which credentials keep the hash alone.
"""

import os
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import msgspec

from deploy.errors import CommandFailed
from schemas.access import credentials
from schemas.access.credentials import (
    Agent,
    Credentials,
    CredentialsInvalid,
    Gateway,
    KeyRefused,
    NotEditable,
    Right,
    Tenant,
)
from schemas.process.file_writing import read_failure
from schemas.process.secret_files import SecretFileExposed, read_text
from schemas.runs import endpoints

TENANT = "demo"
SIGNING_AGENT = "demo-agent"
PLAIN_AGENT = "plain-agent"
CREDENTIALS = "credentials.toml"
LIMITS = "limits.toml"
RETENTION = "retention.toml"
SECRETS = "secrets.json"
PASSWORD_BYTES = 16

LIMITS_TEXT = """\
# Read again when it changes. A group that comes to more dead letters than this stops and waits.
#
# [dead_letters.persistence]
# consecutive_max = 100
# share_max = 0.5             # of about the last share_over_records records
# share_over_records = 1000
"""

RETENTION_TEXT = """\
# How long what is kept. Read again when it changes; `tidegate retention plan` shows what would go.
#
# [retention]                  # of every tenant; what is not said here is kept for ever
# events_days = 365            # a run loses its events so long after its last update
# rejected_days = 90
# orphans = true               # objects that nothing refers to, after 24 hours
#
# [retention.tenants.demo]     # what differs
# events_days = "never"
"""


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of `secrets.json`."""

    postgres_passwords: dict[str, str] = {}  # by login role
    api_key: str = ""
    evaluation_secret: str = ""


class Development(msgspec.Struct, frozen=True, kw_only=True):
    """The values that the stack gives to its user and to its processes."""

    postgres_passwords: dict[str, str]
    credentials: Path
    api_key: str
    agent_id: str
    agent_secret: str
    evaluation_secret: str


def prepare(
    folder: Path, *, logins: Iterable[str], now: datetime, environ: Mapping[str, str] = MappingProxyType({})
) -> Development:
    """
    Read both files in *folder*, adding what they lack; what a person changed in them stays.

    Credentials that *environ* names in another place are used as they are; nothing is added to them.

    Raises:
        CommandFailed: the credentials cannot be used, or lack what a stack needs; says what to do.
    """
    kept = _read_secrets(folder / SECRETS)
    passwords = {login: secrets.token_hex(PASSWORD_BYTES) for login in logins} | kept.postgres_passwords
    secret = kept.evaluation_secret or endpoints.new_secret()
    for name, text in ((LIMITS, LIMITS_TEXT), (RETENTION, RETENTION_TEXT)):
        if not (folder / name).exists():
            (folder / name).write_text(text)
    path = folder / CREDENTIALS
    named = environ.get("TIDEGATE_CREDENTIALS")
    if named and Path(named).expanduser().absolute() != path.absolute():
        kept = msgspec.structs.replace(kept, postgres_passwords=passwords, evaluation_secret=secret)
        _write_secrets(folder / SECRETS, kept)
        return _of_another_place(Path(named).expanduser().absolute(), kept, environ, now)
    before = _read_credentials(path)
    tenant = before.tenants.get(TENANT, Tenant())
    defaults = {SIGNING_AGENT: Agent(secrets=[credentials.new_secret()]), PLAIN_AGENT: Agent()}
    tenant = msgspec.structs.replace(tenant, agents=defaults | tenant.agents)
    after = msgspec.structs.replace(before, tenants={**before.tenants, TENANT: tenant})
    api_key = kept.api_key
    try:
        after.authenticate(api_key, now=now)
    except KeyRefused:
        key_id, api_key, entry = credentials.new_key(tenant=TENANT, rights=list(Right), agents=None, now=now)
        after = msgspec.structs.replace(after, keys={**after.keys, key_id: entry})
    _write_secrets(folder / SECRETS, Secrets(postgres_passwords=passwords, api_key=api_key, evaluation_secret=secret))
    if after != before or not path.exists():
        try:
            credentials.write(path, after)
        except NotEditable as error:
            raise CommandFailed(str(error)) from error
    return Development(
        postgres_passwords=passwords,
        credentials=path,
        api_key=api_key,
        agent_id=SIGNING_AGENT,
        agent_secret=_signing_secret(tenant, path),
        evaluation_secret=secret,
    )


def _signing_secret(tenant: Tenant, path: Path) -> str:
    secrets_of_agent = tenant.agents[SIGNING_AGENT].secrets
    if not secrets_of_agent:
        raise CommandFailed(
            f"{path}: agent {SIGNING_AGENT} must have a secret in a local stack: "
            f"remove it with `tidegate agents remove {SIGNING_AGENT} --tenant {TENANT}` and start again"
        )
    return secrets_of_agent[0]


def _of_another_place(path: Path, kept: Secrets, environ: Mapping[str, str], now: datetime) -> Development:
    found = _parse(path)
    api_key = environ.get("TIDEGATE_API_KEY", "")
    try:
        tenant_id = found.authenticate(api_key, now=now).tenant
    except KeyRefused as error:
        raise CommandFailed(
            f"TIDEGATE_CREDENTIALS names {path}, to which a stack adds nothing: set TIDEGATE_API_KEY to a valid key of "
            "that file (`tidegate keys create` makes one), or unset TIDEGATE_CREDENTIALS and the stack makes its own"
        ) from error
    signing = {name: agent.secrets for name, agent in found.tenants[tenant_id].agents.items() if agent.secrets}
    agent_id = environ.get("TIDEGATE_AGENT_ID") or next(iter(signing), "")
    if agent_id not in signing:
        what = f"agent {agent_id} with a secret" if agent_id else "agent with a secret"
        raise CommandFailed(
            f"tenant {tenant_id} in {path} has no {what}: add one, or name another in TIDEGATE_AGENT_ID"
        )
    return Development(
        postgres_passwords=kept.postgres_passwords,
        credentials=path,
        api_key=api_key,
        agent_id=agent_id,
        agent_secret=signing[agent_id][0],
        evaluation_secret=kept.evaluation_secret,
    )


def _parse(path: Path) -> Credentials:
    try:
        return credentials.parse(read_text(path))
    except OSError as error:
        raise CommandFailed(read_failure(path, error)) from error
    except SecretFileExposed as error:
        raise CommandFailed(str(error)) from error
    except (CredentialsInvalid, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} cannot be used: {error}; correct it or delete it") from error


def _read_secrets(path: Path) -> Secrets:
    try:
        return msgspec.json.decode(read_text(path), type=Secrets) if path.exists() else Secrets()
    except SecretFileExposed as error:
        raise CommandFailed(str(error)) from error


def _write_secrets(path: Path, kept: Secrets) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(kept))


def _read_credentials(path: Path) -> Credentials:
    if path.exists():
        return _parse(path)
    return Credentials(gateway=Gateway(mac_secrets=[credentials.new_secret()]))

"""The development tenant is made once, and what a person changes stays."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from deploy.local import development
from schemas.access import credentials
from schemas.access.credentials import Right, Tenant

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_key_opens_the_tenant_whose_agents_sign_and_do_not(tmp_path: Path) -> None:
    made = development.prepare(tmp_path, logins=["owner"], now=NOW)
    found = credentials.parse((tmp_path / development.CREDENTIALS).read_text())
    principal = found.authenticate(made.api_key, now=NOW)
    assert (principal.tenant, principal.rights, principal.agents) == ("demo", frozenset(Right), None)
    agents = found.tenants["demo"].agents
    assert agents["demo-agent"].secrets == [made.agent_secret]
    assert agents["plain-agent"].secrets == []


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    first = development.prepare(tmp_path, logins=["owner"], now=NOW)
    text = (tmp_path / development.CREDENTIALS).read_text()
    assert development.prepare(tmp_path, logins=["owner"], now=NOW) == first
    assert (tmp_path / development.CREDENTIALS).read_text() == text


def test_what_a_person_added_stays_and_a_new_login_gets_a_password(tmp_path: Path) -> None:
    first = development.prepare(tmp_path, logins=["owner"], now=NOW)
    path = tmp_path / development.CREDENTIALS
    found = credentials.parse(path.read_text())
    credentials.write(path, msgspec.structs.replace(found, tenants={**found.tenants, "mine": Tenant()}))
    second = development.prepare(tmp_path, logins=["owner", "another"], now=NOW)
    assert set(credentials.parse(path.read_text()).tenants) == {"demo", "mine"}
    assert second.postgres_passwords["owner"] == first.postgres_passwords["owner"]
    assert len(second.postgres_passwords["another"]) >= 32


def test_a_revoked_key_is_replaced(tmp_path: Path) -> None:
    first = development.prepare(tmp_path, logins=[], now=NOW)
    path = tmp_path / development.CREDENTIALS
    found = credentials.parse(path.read_text())
    revoked = {key_id: msgspec.structs.replace(key, revoked_at=NOW) for key_id, key in found.keys.items()}
    credentials.write(path, msgspec.structs.replace(found, keys=revoked))
    second = development.prepare(tmp_path, logins=[], now=NOW)
    assert second.api_key != first.api_key
    assert credentials.parse(path.read_text()).authenticate(second.api_key, now=NOW).tenant == "demo"


def test_both_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    development.prepare(tmp_path, logins=[], now=NOW)
    for name in (development.CREDENTIALS, development.SECRETS):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0

"""Keys and the file that holds their hashes."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import structlog

from schemas import credentials as credentials_file
from schemas.credentials import Credentials, CredentialsFile, CredentialsInvalid, KeyRefused, Right, new_key
from tests.builders import TENANT, credentials

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def with_key(*, expires_at: datetime | None = None, revoked_at: datetime | None = None) -> tuple[str, Credentials]:
    key_id, key, entry = new_key(tenant=TENANT, rights=[Right.INGEST], agents=None, now=NOW, expires_at=expires_at)
    entry = msgspec.structs.replace(entry, revoked_at=revoked_at)
    return key, msgspec.structs.replace(credentials(), keys={key_id: entry})


def test_a_key_names_its_tenant_and_rights() -> None:
    key, file = with_key()
    principal = file.authenticate(key, now=NOW)
    assert (principal.tenant, principal.rights, principal.agents) == (TENANT, {Right.INGEST}, None)


def test_the_file_does_not_hold_the_key() -> None:
    key, file = with_key()
    assert key.split("_")[2] not in credentials_file.dump(file)


def test_what_is_no_key_in_force_is_refused_with_one_answer() -> None:
    key, file = with_key()
    expired, expired_file = with_key(expires_at=NOW - timedelta(seconds=1))
    revoked, revoked_file = with_key(revoked_at=NOW)
    messages = set()
    for presented, given in [
        ("", file), ("tg", file), ("tg_", file), (key[:-1], file), (key + "0", file), (key.replace("tg", "xx"), file),
        ("tg_nobody_secret", file), ("\ud800", file), (expired, expired_file), (revoked, revoked_file),
    ]:  # fmt: skip
        with pytest.raises(KeyRefused) as caught:
            given.authenticate(presented, now=NOW)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_a_file_survives_writing_and_reading(tmp_path: Path) -> None:
    _, file = with_key(expires_at=NOW + timedelta(days=1))
    credentials_file.write(tmp_path / "c.toml", file)
    assert CredentialsFile(tmp_path / "c.toml").current(now_s=0) == file
    assert stat.S_IMODE((tmp_path / "c.toml").stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["c.toml"]


def test_a_change_is_seen_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    credentials_file.write(path, credentials())
    file = CredentialsFile(path)
    assert not file.current(now_s=0).keys
    _, newer = with_key()
    credentials_file.write(path, newer)
    assert file.current(now_s=10) == newer
    path.write_text("tenants = 5")
    assert file.current(now_s=20) == newer
    assert file.problem is not None
    path.unlink()
    assert file.current(now_s=30) == newer
    credentials_file.write(path, credentials())
    assert file.current(now_s=40) == credentials()
    assert file.problem is None


def test_a_bad_file_is_told_of_once(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    credentials_file.write(path, credentials())
    file = CredentialsFile(path)
    path.write_text("nonsense")
    with structlog.testing.capture_logs() as told:
        for now_s in (10, 20, 30):
            file.current(now_s=now_s)
        credentials_file.write(path, credentials())
        file.current(now_s=40)
    assert [line["log_level"] for line in told] == ["error", "warning"]


@pytest.mark.parametrize(
    "text",
    ["", "x = 1", "[gateway]\nmac_secrets = []", "[gateway]\nmac_secrets = ['a']\n[tenants.'a b']", "not toml"],
)
def test_a_file_that_cannot_be_used_says_why(text: str) -> None:
    with pytest.raises(CredentialsInvalid, match=r".+"):
        credentials_file.parse(text)


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(CredentialsInvalid, match="No such file"):
        CredentialsFile(tmp_path / "none.toml")

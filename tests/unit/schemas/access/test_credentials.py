"""Keys and the file that holds their hashes."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import structlog

from schemas.access import credentials as credentials_file
from schemas.access.credentials import (
    Credentials,
    CredentialsFile,
    CredentialsInvalid,
    FileCredentials,
    Gateway,
    KeyRefused,
    Right,
    authenticate,
    decide,
    new_key,
)
from schemas.access.rotation import SIGN_AFTER_S
from tests.support.builders import TENANT, credentials

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


def with_mac_secrets(*mac_secrets: str) -> Credentials:
    return msgspec.structs.replace(credentials(), gateway=Gateway(mac_secrets=list(mac_secrets)))


OLD, NEW = "the-old-secret", "the-new-secret"


def test_an_entry_that_was_written_a_moment_ago_counts_before_something_is_refused(tmp_path: Path) -> None:
    """Also if it comes right after the file was checked: what has accepted a record may have read it sooner."""
    path = tmp_path / "c.toml"
    credentials_file.write(path, with_mac_secrets(OLD))
    in_force = FileCredentials(CredentialsFile(path), clock_s=lambda: 10.0)
    before = in_force()
    credentials_file.write(path, with_mac_secrets(NEW, OLD))
    assert in_force() is before
    assert decide(lambda by: NEW in by.gateway.mac_secrets, in_force, refuses=lambda known: not known)
    assert in_force.newer(in_force()) is None


def test_a_key_that_was_made_a_moment_ago_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    credentials_file.write(path, credentials())
    in_force = FileCredentials(CredentialsFile(path), clock_s=lambda: 10.0)
    in_force()
    key, newer = with_key()
    credentials_file.write(path, newer)
    principal, used = authenticate(key, in_force, now=NOW)
    assert (principal.tenant, used) == (TENANT, newer)
    with pytest.raises(KeyRefused):
        authenticate(f"{key}0", in_force, now=NOW)


@pytest.mark.parametrize("text", ["", "[gateway", "tenants = 5"])
def test_what_nobody_could_accept_never_reads_the_file_again(tmp_path: Path, text: str) -> None:
    """Whoever writes forged records or sends wrong keys costs one `stat` each, whatever the file's state."""
    path, reads = tmp_path / "c.toml", []

    class Counting(type(path)):  # type: ignore[misc]
        def read_text(self, *arguments: object, **named: object) -> str:
            reads.append(self)
            return str(super().read_text(*arguments, **named))

    credentials_file.write(path, credentials())
    file = CredentialsFile(Counting(path))
    if text:
        path.write_text(text)
    for number in range(100):
        before = file.current(now_s=0)
        assert file.newer(before, now_s=number / 100) is None
    assert len(reads) == (2 if text else 1)


def test_a_new_first_secret_signs_after_a_delay_and_a_removed_one_still_verifies(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    credentials_file.write(path, with_mac_secrets(OLD))
    file = CredentialsFile(path)
    assert file.current(now_s=0).gateway.mac_secrets == [OLD]
    credentials_file.write(path, with_mac_secrets(NEW))
    assert file.current(now_s=10).gateway.mac_secrets == [OLD, NEW]
    assert file.current(now_s=10) is file.current(now_s=11)
    assert file.current(now_s=10 + SIGN_AFTER_S).gateway.mac_secrets == [NEW, OLD]
    assert file.current(now_s=1000).gateway.mac_secrets == [NEW]


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "short",
        "replace-me: what gateways prove",
        "CHANGE_ME_CHANGE_ME",
        "<your secret here>",
        "0" * 20,
    ],
)
@pytest.mark.parametrize("place", ["mac_secrets", "agents"])
def test_a_secret_that_is_none_is_refused_by_its_place(secret: str, place: str) -> None:
    base = with_mac_secrets(secret if place == "mac_secrets" else OLD)
    if place == "agents":
        tenant = msgspec.structs.replace(base.tenants[TENANT], agents={"a": credentials_file.Agent(secrets=[secret])})
        base = msgspec.structs.replace(base, tenants={TENANT: tenant})
    where = r"gateway\.mac_secrets\[0\]" if place == "mac_secrets" else rf"tenants\.{TENANT}\.agents\.a\.secrets\[0\]"
    with pytest.raises(CredentialsInvalid, match=where):
        credentials_file.parse(credentials_file.dump(base))


def test_the_example_file_is_refused_until_its_secrets_are_replaced() -> None:
    example = Path(__file__).parents[4] / "deploy" / "docker" / "credentials.example.toml"
    with pytest.raises(CredentialsInvalid, match="placeholder"):
        credentials_file.parse(example.read_text())


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666, 0o602, 0o620, 0o777])
def test_a_file_that_others_may_read_or_change_stops_the_start(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "c.toml"
    credentials_file.write(path, credentials())
    path.chmod(mode)
    with pytest.raises(CredentialsInvalid, match=f"mode {mode:04o}.*chmod 600 {path}"):
        CredentialsFile(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_file_that_its_group_may_read_is_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "c.toml"
    credentials_file.write(path, credentials())
    path.chmod(mode)
    assert CredentialsFile(path).current(now_s=0) == credentials()


def test_a_file_that_is_exposed_later_is_reported_and_what_it_revokes_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    _, with_one = with_key()
    credentials_file.write(path, with_one)
    file = CredentialsFile(path)
    path.chmod(0o644)
    with structlog.testing.capture_logs() as logged:
        assert file.current(now_s=10) == with_one
        path.write_text(credentials_file.dump(credentials()))
        assert not file.current(now_s=20).keys
    assert [line["log_level"] for line in logged] == ["error"]
    assert "0644" in (file.problem or "")
    path.chmod(0o600)
    file.current(now_s=30)
    assert file.problem is None

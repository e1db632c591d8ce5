"""The credentials file as `tidegate keys` makes and keeps it."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from deploy.cli.app import build
from deploy.errors import CommandFailed
from schemas.access import credentials

LONG = "n" * 250  # a name to which nothing can be added, so that its file cannot be replaced


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the file is to be; there is none yet."""
    path = tmp_path / "credentials.toml"
    monkeypatch.setenv("TIDEGATE_CREDENTIALS", str(path))
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(build(), ["keys", *arguments], catch_exceptions=False)


def test_a_first_file_has_new_secrets_and_is_for_its_owner_alone(path: Path) -> None:
    assert json.loads(run("init", "--json").stdout) == {"file": str(path), "created": True, "tenants": ["demo"]}
    made = credentials.parse(path.read_text())
    assert set(made.tenants["demo"].agents) == {"demo-agent", "plain-agent"}
    assert [len(secret) for secret in made.gateway.mac_secrets] == [64]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_exists_is_only_checked(path: Path) -> None:
    run("init", "--tenant", "mine")
    before = path.read_bytes()
    assert "exists; tenants: mine" in run("init").stdout
    assert path.read_bytes() == before
    path.write_text("nonsense")
    with pytest.raises(CommandFailed, match="cannot be used"):
        run("init")


def test_a_name_that_no_tenant_can_have_is_refused(path: Path) -> None:
    assert run("init", "--tenant", "a b").exit_code == 2
    assert not path.exists()


def test_a_missing_folder_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_CREDENTIALS", str(path.parent / "none" / "c.toml"))
    with pytest.raises(CommandFailed, match="none does not exist"):
        run("init")


def test_a_key_keeps_the_mode_of_the_file(path: Path) -> None:
    run("init")
    path.chmod(0o640)
    assert run("create", "--tenant", "demo", "--right", "read").stdout.startswith("tg_")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_replaced_is_written_over_and_that_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init")
    alone = path.with_name(LONG)
    path.rename(alone)
    monkeypatch.setenv("TIDEGATE_CREDENTIALS", str(alone))
    made = run("create", "--tenant", "demo", "--right", "read")
    key_id = made.stdout.split("_")[1]
    assert "was written over in place" in made.stderr
    assert key_id in credentials.parse(alone.read_text()).keys
    assert "was written over in place" in run("revoke", key_id, "--yes").stderr
    assert credentials.parse(alone.read_text()).keys[key_id].revoked_at is not None

"""The command as its user sees it: output and exit codes."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deploy.cli.app import COMMANDS, build
from deploy.cli.keys import entry_text
from deploy.errors import CommandFailed, NotReachable
from deploy.local import development
from schemas.access import credentials
from tests.unit.deploy.cli.conftest import NOW


def run(*arguments: str, answer: str | None = None) -> str:
    """Run the command; what it raises is raised here."""
    done = CliRunner().invoke(build(), arguments, input=answer, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_table_of_commands_has_each_with_its_module() -> None:
    assert set(typer.main.get_command(build()).commands) == set(COMMANDS)  # type: ignore[attr-defined]
    for name in COMMANDS:
        assert name in typer.main.get_command(build(name)).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", [["status"], ["restart", "kafka"], ["config", "show"], ["lag"], ["migrate"]])
def test_without_a_stack_a_command_says_that_it_is_not_reachable(folder: Path, command: list[str]) -> None:
    with pytest.raises(NotReachable, match="no stack runs in"):
        run(*command, "--dir", str(folder))
    assert NotReachable.exit_code == 3


def test_a_wrong_option_is_a_usage_error() -> None:
    assert CliRunner().invoke(build(), ["lag", "--nonsense"]).exit_code == 2


def test_a_created_key_works_until_it_is_revoked(folder: Path) -> None:
    path = folder / development.CREDENTIALS
    made = json.loads(run("keys", "create", "--tenant", "demo", "--right", "read", "--dir", str(folder), "--json"))
    principal = credentials.parse(path.read_text()).authenticate(made["key"], now=datetime.now(UTC))
    assert (principal.tenant, principal.rights) == ("demo", {"read"})
    assert made["id"] in run("keys", "list", "--dir", str(folder))
    run("keys", "revoke", made["id"], "--dir", str(folder), answer="y\n")
    with pytest.raises(credentials.KeyRefused):
        credentials.parse(path.read_text()).authenticate(made["key"], now=datetime.now(UTC))


def test_a_key_is_not_revoked_without_consent(folder: Path) -> None:
    path = folder / development.CREDENTIALS
    [key_id] = credentials.parse(path.read_text()).keys
    done = CliRunner().invoke(build(), ["keys", "revoke", key_id, "--dir", str(folder)], input="n\n")
    assert done.exit_code == 1
    assert credentials.parse(path.read_text()).keys[key_id].revoked_at is None


def test_a_key_of_an_unknown_tenant_is_refused(folder: Path) -> None:
    with pytest.raises(CommandFailed, match="has no tenant other: add it with `tidegate tenants add other`"):
        run("keys", "create", "--tenant", "other", "--right", "read", "--dir", str(folder))


def test_the_entry_to_add_by_hand_is_what_the_file_would_hold() -> None:
    key_id, key, entry = credentials.new_key(tenant="demo", rights=[credentials.Right.READ], agents=None, now=NOW)
    text = f'[gateway]\nmac_secrets = ["gateway-secret"]\n[tenants.demo]\n{entry_text(key_id, entry)}'
    assert credentials.parse(text).authenticate(key, now=NOW).key_id == key_id


def test_the_schemas_are_as_released() -> None:
    assert all(row["state"] == "released" for row in json.loads(run("schemas", "check", "--json")))
    [first, *_] = json.loads(run("schemas", "list", "--json"))
    assert json.loads(run("schemas", "show", str(first["id"])))["name"] == first["record"].split(".")[-1]

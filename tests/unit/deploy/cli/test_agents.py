"""Tenants and agents are made by commands, and what a person wrote in the file stays."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from deploy.admin.credentials import change
from deploy.cli.app import build
from deploy.errors import CommandFailed
from deploy.local import development
from schemas.access import credentials
from schemas.access.credentials import Credentials, Tenant
from schemas.runs.signature import event_signature_holds
from tests.support.builders import event, signed
from tests.unit.deploy.cli.conftest import Command


def written(folder: Path) -> Credentials:
    return credentials.parse((folder / development.CREDENTIALS).read_text())


def test_an_added_agent_signs_with_the_secret_that_is_printed(folder: Path, command: Command) -> None:
    secret = command("agents", "add", "planner").strip()
    assert written(folder).tenants["demo"].agents["planner"].secrets == [secret]
    given = signed(event(), agent_id="planner", secret=secret)
    assert event_signature_holds(given, given["meta"]["signature"], [secret])
    made = json.loads(command("agents", "add", "crawler", "--unsigned", "--json"))
    assert made == {"tenant": "demo", "agent": "crawler", "secret": None, "entry_to_add": None}
    rows = json.loads(command("agents", "list", "--json"))
    assert {"tenant": "demo", "agent": "planner", "signs": True, "secrets": 1} in rows
    assert {"tenant": "demo", "agent": "crawler", "signs": False, "secrets": 0} in rows
    assert secret not in command("agents", "list")


def test_two_secrets_are_valid_during_a_rotation(folder: Path, command: Command) -> None:
    def secrets() -> list[str]:
        return written(folder).tenants["demo"].agents["demo-agent"].secrets

    [first] = secrets()
    second = command("agents", "rotate", "demo-agent").strip()
    assert secrets() == [second, first]
    third = json.loads(command("agents", "rotate", "demo-agent", "--json"))["secret"]
    assert secrets() == [third, second]
    assert second not in command("agents", "rotate", "demo-agent", "--finish")
    assert secrets() == [third]


def test_a_removed_agent_is_gone_once_that_is_confirmed(folder: Path, command: Command) -> None:
    with pytest.raises(AssertionError):
        command("agents", "remove", "plain-agent", answer="n\n")
    assert "plain-agent" in written(folder).tenants["demo"].agents
    assert json.loads(command("agents", "remove", "plain-agent", "--yes", "--json"))["removed"]
    assert "plain-agent" not in written(folder).tenants["demo"].agents


@pytest.mark.parametrize(
    "arguments",
    [
        ["agents", "rotate", "nobody"],
        ["agents", "remove", "nobody", "--yes"],
        ["agents", "rotate", "nobody", "--tenant", "demo"],
        ["keys", "create", "--tenant", "demo", "--right", "read", "--agent", "nobody"],
    ],
)
def test_no_such_agent_says_so_and_which_there_are(folder: Path, command: Command, arguments: list[str]) -> None:
    before = written(folder)
    with pytest.raises(CommandFailed, match=r"no such agent.*nobody.*it has: demo-agent, plain-agent"):
        command(*arguments)
    assert written(folder) == before


def test_what_cannot_be_an_agent_or_a_tenant_is_a_usage_error(folder: Path) -> None:
    for arguments in (["agents", "add", "a b"], ["agents", "add", ".."], ["tenants", "add", "a/b"]):
        done = CliRunner().invoke(build(), [*arguments, "--dir", str(folder)])
        assert done.exit_code == 2, done.output


def test_an_agent_that_does_not_sign_has_nothing_to_rotate(command: Command) -> None:
    with pytest.raises(CommandFailed, match="plain-agent has no secret"):
        command("agents", "rotate", "plain-agent")
    with pytest.raises(CommandFailed, match="has an agent plain-agent already"):
        command("agents", "add", "plain-agent")


def test_a_tenant_is_added_listed_and_removed_with_its_keys(folder: Path, command: Command) -> None:
    command("tenants", "add", "other", "--events-per-min", "60", "--allow-unsigned-direct")
    with pytest.raises(CommandFailed, match="has a tenant other already"):
        command("tenants", "add", "other")
    command("keys", "create", "--tenant", "other", "--right", "read")
    with pytest.raises(CommandFailed, match=r"name the tenant with --tenant.*demo, other"):
        command("agents", "add", "planner")
    command("agents", "add", "planner", "--tenant", "other")
    command("agents", "rotate", "planner")  # one tenant has it
    assert json.loads(command("tenants", "list", "--json"))[-1] == {
        "tenant": "other",
        "agents": 1,
        "keys": 1,
        "allow_unsigned_direct": True,
        "events_per_min": 60,
    }
    with pytest.raises(CommandFailed, match=r"has no tenant nobody.*tidegate tenants add nobody"):
        command("tenants", "remove", "nobody", "--yes")
    assert len(json.loads(command("tenants", "remove", "other", "--yes", "--json"))["removed_keys"]) == 1
    assert list(written(folder).tenants) == ["demo"]
    assert {key.tenant for key in written(folder).keys.values()} == {"demo"}


def test_the_first_tenant_makes_the_file(folder: Path, command: Command) -> None:
    path = folder / development.CREDENTIALS
    path.unlink()
    with pytest.raises(CommandFailed, match=r"does not exist.*tidegate tenants add"):
        command("agents", "add", "planner", "--tenant", "demo")
    command("tenants", "add", "demo")
    command("agents", "add", "planner")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(written(folder).gateway.mac_secrets[0]) == 64


COMMENTED = """\
# Who may do what.
[gateway]
mac_secrets = [
  "the-newest-mac-secret",  # since May
  "the-mac-secret-before",  # until June
]

# The shop
[tenants.demo]
allow_unsigned_direct = false  # never
agents = {planner = {secrets = ["the-secret-of-planner"]}}  # inline

[tenants.other.agents.crawler]  # does not sign
secrets = []

[keys.0a1b2c3d4e5f]  # for CI
tenant = "demo"
sha256 = "{digest}"
rights = ["read"]
created_at = 2026-01-01T00:00:00Z
# The end.
""".replace("{digest}", "0" * 64)


def test_comments_order_and_notation_survive_every_command(folder: Path, command: Command) -> None:
    path = folder / development.CREDENTIALS
    path.write_text(COMMENTED)
    for arguments in (
        "tenants add third",
        "agents add builder --tenant third",
        "agents add helper --tenant demo",
        "agents rotate planner",
        "agents rotate planner --finish",
        "agents add walker --tenant other --unsigned",
        "agents remove walker --yes",
        "keys create --tenant demo --right read --agent planner",
        "keys revoke 0a1b2c3d4e5f --yes",
        "tenants remove third --yes",
    ):
        command(*arguments.split())
        lines = path.read_text().splitlines()
        commented = [line for line in COMMENTED.splitlines() if "#" in line and "planner" not in line]
        assert [line for line in lines if line in commented] == commented
        assert path.read_text().count("#") == COMMENTED.count("#")
    assert set(written(folder).tenants["demo"].agents) == {"planner", "helper"}


def test_a_file_that_a_program_would_strip_of_its_comments_is_left_alone(folder: Path, command: Command) -> None:
    path = folder / development.CREDENTIALS
    text = '# why\ngateway.mac_secrets = ["the-newest-mac-secret"]\ntenants.demo.agents.planner.secrets = []\n'
    text += "tenants.demo.agents.walker.secrets = []\n"
    path.write_text(text)
    shown = command("agents", "add", "helper", "--unsigned")
    assert path.read_text() == text
    entry = shown[shown.index("[tenants.demo.agents.helper]") :]
    assert credentials.parse(f'[gateway]\nmac_secrets = ["the-newest-mac-secret"]\n{entry}').tenants["demo"].agents


def test_a_file_that_its_group_reads_stays_so(folder: Path, command: Command) -> None:
    path = folder / development.CREDENTIALS
    path.chmod(0o640)
    command("agents", "add", "helper")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("arguments", [["agents", "add", "x"], ["keys", "list"], ["tenants", "list"]])
def test_a_file_that_others_may_read_is_refused_with_the_command_that_closes_it(
    folder: Path, command: Command, arguments: list[str]
) -> None:
    path = folder / development.CREDENTIALS
    path.chmod(0o644)
    with pytest.raises(CommandFailed, match=f"mode 0644.*chmod 600 {path}"):
        command(*arguments)


def test_a_file_with_placeholders_is_refused_by_every_command(folder: Path, command: Command) -> None:
    path = folder / development.CREDENTIALS
    path.write_text('[gateway]\nmac_secrets = ["replace-me: a random text"]\n[tenants.demo]\n')
    for arguments in (["agents", "add", "x"], ["keys", "create", "--tenant", "demo", "--right", "read"]):
        with pytest.raises(
            CommandFailed, match=r"gateway\.mac_secrets\[0\] is a placeholder \(replace-me\).*openssl rand"
        ):
            command(*arguments)


def test_commands_that_run_together_undo_nothing_of_each_other(folder: Path) -> None:
    path = folder / development.CREDENTIALS

    def add(number: int) -> None:
        change(path, lambda found: msgspec.structs.replace(found, tenants={**found.tenants, f"t{number}": Tenant()}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert {f"t{number}" for number in range(24)} <= written(folder).tenants.keys()


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(build(), ["--version"])
    assert (done.exit_code, done.stdout.split()[0]) == (0, "tidegate")
    assert done.stdout.split()[1][0].isdigit()

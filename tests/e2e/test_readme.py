"""What the README and the guides say, run as a stranger would run it."""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomlkit

from processors.runs.evaluation.webhook import Body, EventData
from processors.runs.retention.policy import parse_retention
from schemas.runs import endpoints
from schemas.runs.pushed import RUN_FINALIZED
from schemas.sinks import sinks_file
from tests.faults.processes import own_process
from tests.golden.surface import settings_table
from tests.support.stack import RunningStack, TidegateFailed, tidegate
from tests.support.tools import need

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "deploy" / "docs").glob("*.md"))
PAGES = {path: path.read_text() for path in (README, *GUIDES)}
README_BYTES_MAX = 10_000
TASK_TYPE_LINES_MAX = 15
SINK_CLASS_LINES_MAX = 20
# What other tests run: the demo, the suite itself, the stack's own start; and what needs a Docker engine.
ELSEWHERE = ("make ", "tidegate up", "docker compose")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    fenced = [
        found
        for page in PAGES.values()
        for found in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ]
    return [text for named, text in fenced if named == language]


def program_with(text: str) -> str:
    """Return the one example in Python that has *text*."""
    [found] = [each for each in blocks("python") if text in each]
    return found


def commands() -> Iterator[str]:
    """Yield every command of the pages; one may go over several lines."""
    for block in blocks(""):
        for command in re.split(r"\n(?=\S)", block.strip()):
            if re.match(r"(make|tidegate|python|kcat|curl|cp|docker|echo|TIDEGATE_\w+=)\b", command):
                yield command


def test_there_are_commands_to_check() -> None:
    assert len(list(commands())) > 10
    assert len(blocks("python")) == 6


@pytest.fixture
def folder(stack: RunningStack, tmp_path: Path) -> Path:
    """Return a folder that looks like the checkout of a stranger whose stack is up."""
    (tmp_path / ".tidegate").symlink_to(stack.folder)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    return tmp_path


@pytest.fixture
def environment(stack: RunningStack) -> dict[str, str]:
    known = stack.addresses
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GATEWAY": known.gateway,
        "KEY": known.api_key,
        "KAFKA": known.kafka,
    }


def kcat_knows_avro() -> bool:
    """Return whether the kcat that is installed has Avro; Debian's has not."""
    version = subprocess.run([need("kcat"), "-V"], capture_output=True, text=True, check=True).stdout
    return "Avro" in version


@pytest.mark.timeout(1200)  # some hundred commands, a second each where the machine has nothing else to do
def test_every_command_works(folder: Path, environment: dict[str, str]) -> None:
    for command in commands():
        if command.startswith(ELSEWHERE):
            continue
        if command.startswith("kcat"):
            need("kcat")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if "-s value=avro" in command and not kcat_knows_avro():
            assert "lacks Avro/Schema-Registry support" in done.stderr
            continue
        if command.startswith(("tidegate status", "tidegate doctor")) and "dead letters" in done.stdout:
            continue  # of other tests: both say so and fail
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if command.startswith("curl -i"):
            assert "202 Accepted" in done.stdout


@pytest.mark.parametrize("client", ["TidegateClient(", "TidegateDocuments("], ids=["runs", "documents"])
def test_the_client_example_works(stack: RunningStack, folder: Path, client: str) -> None:
    known = stack.addresses
    given = f"url, key, secret = {known.gateway!r}, {known.api_key!r}, {known.agent_secret!r}"
    imports, body = program_with(client).split("\n\n", 1)
    program = (
        f"import asyncio\n{imports}\n{given}\nasync def main():\n{textwrap.indent(body, '    ')}\nasyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def test_the_example_of_a_task_type_works(stack: RunningStack, tmp_path: Path) -> None:
    """Processes that know its module take its jobs and run them; the stack's own do not."""
    program = program_with("DISCOUNT")
    assert len([line for line in program.splitlines() if line.strip()]) <= TASK_TYPE_LINES_MAX
    (tmp_path / "shop_tasks.py").write_text(program)
    environ = {"TIDEGATE_JOB_TYPES": "shop_tasks:DISCOUNT", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with (
        own_process(stack, tmp_path, "gateway", environ=environ) as gateway,
        own_process(stack, tmp_path, "executor", environ=environ) as executor,
    ):
        for process in (gateway, executor):
            process.wait_ready()
        known = {**os.environ, "TIDEGATE_GATEWAY": gateway.url, "TIDEGATE_API_KEY": stack.addresses.api_key}
        given = '{"prices": [10.0, 20.0], "percent": 50}'
        said = tidegate("jobs", "submit", "shop/discount", "-p", given, "--wait", "--json", environ=known)
        assert json.loads(said)["result"] == {"prices": [5.0, 10.0]}
        with pytest.raises(TidegateFailed, match="/parameters/percent"):
            tidegate("jobs", "submit", "shop/discount", "-p", '{"prices": [], "percent": "x"}', environ=known)


def test_the_example_of_a_class_of_sinks_holds_its_contract(stack: RunningStack, tmp_path: Path) -> None:
    program = program_with("class Shelf")
    assert len([line for line in program.splitlines() if line.strip()]) < SINK_CLASS_LINES_MAX
    (tmp_path / "shelf.py").write_text(program)
    settings = {"path": str(tmp_path / "shelf.txt")}
    file = tmp_path / "sinks.toml"
    file.touch(mode=0o600)
    file.write_text(
        tomlkit.dumps({"sinks": {"shelf": {"kind": "class", "class": "shelf:Shelf", "settings": settings}}})
    )
    known = {**os.environ, "TIDEGATE_SINKS": str(file), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    said = json.loads(tidegate("sinks", "check", "shelf", "--json", "--dir", str(stack.folder), environ=known))
    assert {each["result"] for each in said["checks"]} == {"ok"}
    assert "check_0_0" in (tmp_path / "shelf.txt").read_text()


def test_the_example_of_sinks_is_one() -> None:
    [example] = [each for each in blocks("toml") if each.startswith("[sinks.")]
    sinks = sinks_file.parse(example.replace("whsec_...", endpoints.new_secret())).sinks
    assert list(sinks) == ["warehouse", "files", "table", "shelf"]


def test_the_example_of_an_endpoint_is_one() -> None:
    [example] = [each for each in blocks("toml") if each.startswith("[endpoints.")]
    [endpoint] = endpoints.parse(example.replace("whsec_...", endpoints.new_secret())).endpoints.values()
    assert endpoint.types == ("tool_call", "tool_result", "run_finalized")


def test_the_example_of_an_endpoint_asks_for_what_the_demonstration_sends() -> None:
    """Each type it names is one of the example agent's, so that nobody who copies it waits for nothing."""
    [example] = [each for each in blocks("toml") if each.startswith("[endpoints.")]
    [endpoint] = endpoints.parse(example.replace("whsec_...", endpoints.new_secret())).endpoints.values()
    sent = set(re.findall(r'\.event\(\s*"(\w+)"', (ROOT / "deploy" / "examples" / "agent.py").read_text()))
    assert {"tool_call", "tool_result"} <= sent
    for wanted in endpoint.types:
        assert any(endpoints.matches(each, wanted) for each in {*sent, RUN_FINALIZED}), wanted


def test_the_example_of_a_webhook_has_what_one_has() -> None:
    fields = {field.name for field in msgspec.structs.fields(Body)}
    [told] = [read for each in blocks("json") if (read := json_or_none(each)) and read.keys() == fields]
    assert msgspec.json.decode(json.dumps(told["data"]), type=EventData).event.seq == 1


def json_or_none(text: str) -> dict[str, Any] | None:
    """Return the document in *text*; None where it has several, a line each."""
    try:
        return dict(json.loads(text))
    except json.JSONDecodeError:
        return None


def test_the_example_of_retention_is_one() -> None:
    [example] = [each for each in blocks("toml") if each.startswith("[retention]")]
    assert parse_retention(example).tenants["demo"].events_days == 30


def test_every_setting_is_listed_as_it_is_declared() -> None:
    page = PAGES[ROOT / "deploy" / "docs" / "deploy.md"]
    assert settings_table() in page, f"deploy.md needs these rows:\n{settings_table()}"


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= README_BYTES_MAX


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        path, _, heading = target.partition("#")
        if path.startswith("https://"):
            continue
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}, target


def test_each_name_of_the_architecture_is_defined_where_its_link_leads() -> None:
    page = ROOT / "deploy" / "docs" / "architecture.md"
    named = re.findall(r"\[`([\w.]+)`\]\(([^)]+)\)", PAGES[page])
    assert len(named) > 30
    for name, target in named:
        code = (page.parent / target).read_text()
        for part in name.split("."):
            assert re.search(rf"(def|class) {part}\b|^{part}\b.* = ", code, re.MULTILINE), f"{target} has no {name}"


def test_the_readme_names_every_guide() -> None:
    assert all(f"(deploy/docs/{guide.name})" in PAGES[README] for guide in GUIDES)

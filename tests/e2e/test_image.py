"""`docker compose up` without an engine: the image's content, its user, its commands, the demonstration through it."""

import asyncio
import io
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from deploy.examples import demo
from deploy.local.services import ENGINE
from deploy.local.stack_file import Stack
from schemas.access import credentials
from schemas.kafka.connection import KafkaSettings
from schemas.objects.references import INLINE_BYTES_MAX
from schemas.runs.endpoints import new_secret
from tests.faults.disk import needs_root
from tests.faults.processes import free_port
from tests.integration.test_large_payloads import body, payload
from tests.support.compose import Mount
from tests.support.deployment import ContainerFailed, Deployment, deployment
from tests.support.stack import wait_until

pytestmark = needs_root

PROCESSES = (
    *("gateway", "persistence", "events", "fanout", "maintenance", "evaluation", "jobs-intake", "executor"),
    *("documents-intake", "documents-embed", "documents-store"),
)
USER = 10001
FILE = "credentials.toml"
FOLDER = "/var/lib/tidegate/credentials"
NOTICED_S = 15.0


@pytest.fixture(scope="module")
def engine() -> Iterator[tuple[str, str]]:
    """Yield the example of an evaluation engine on this machine: its address, and the secret of its webhooks."""
    port, secret = free_port(), new_secret()
    command = [sys.executable, "-m", "deploy.examples.engine", "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "ENGINE_SECRET": secret})
    yield f"http://127.0.0.1:{port}", secret
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, engine: tuple[str, str]) -> Iterator[Deployment]:
    """Yield every service, all healthy."""
    environ = {
        "TIDEGATE_EVALUATION_URL": f"{engine[0]}/",
        "TIDEGATE_EVALUATION_SECRET": engine[1],
        "TIDEGATE_EVALUATION_INTERNAL": "true",
    }
    with deployment(tmp_path_factory.mktemp("image"), environ) as made, made.up(*PROCESSES):
        yield made


@pytest.fixture(scope="module")
def key(deployed: Deployment) -> str:
    """Return an API key, made as the Compose file says."""
    return create_key(deployed)


def create_key(deployed: Deployment, *, mounts: list[Mount] | None = None) -> str:
    named = ("ingest", "read", "admin", "documents:write", "documents:read", "search")
    rights = [word for right in named for word in ("--right", right)]
    said = deployed.run("tidegate", "keys", "create", "--tenant", "demo", *rights, mounts=mounts)
    return next(line for line in said.splitlines() if line.startswith("tg_"))


def status(deployed: Deployment, key: str) -> int:
    """Return how the gateway answers to *key*."""
    connection = HTTPConnection(deployed.addresses["gateway"], 8080, timeout=10)
    connection.request("GET", "/api/runs", headers={"X-API-Key": key})
    answered = connection.getresponse().status
    connection.close()
    return answered


def test_every_process_is_the_images_user_and_cannot_write_to_the_image(deployed: Deployment) -> None:
    for name in PROCESSES:
        lines = Path(f"/proc/{deployed.running[name].pid}/status").read_text().splitlines()
        found = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert (set(found["Uid"].split()), found["CapEff"]) == ({str(USER)}, "0" * 16), name
    with pytest.raises(ContainerFailed, match="Read-only file system"):
        deployed.run("gateway", "python", "-c", "open('/opt/tidegate/new', 'w')")


def test_the_demonstration_runs_through_it(deployed: Deployment, engine: tuple[str, str], key: str) -> None:
    """Sent, read back, receipts, rows, trace record, websocket and webhooks: as with a local stack."""
    known = credentials.parse((deployed.volume("credentials") / FILE).read_text())
    stack = Stack(
        gateway=f"http://{deployed.addresses['gateway']}:8080",
        websocket=f"ws://{deployed.addresses['fanout']}:8081",
        management={ENGINE: engine[0]},
        kafka=f"{deployed.addresses['kafka']}:19092",
        postgres=f"postgresql://tidegate:tidegate@{deployed.addresses['postgres']}/tidegate",
        api_key=key,
        agent_id="demo-agent",
        agent_secret=known.tenants["demo"].agents["demo-agent"].secrets[0],
        processes=[],
    )
    shown = io.StringIO()
    faults = asyncio.run(demo._run(stack, KafkaSettings(bootstrap=stack.kafka), Console(file=shown, width=200)))
    assert faults == [], shown.getvalue()
    assert "The evaluation engine" in shown.getvalue()
    assert "Live: " in shown.getvalue()


async def test_a_large_payload_comes_back_by_http_and_on_a_websocket(deployed: Deployment, key: str) -> None:
    """The body goes through the process that parses large ones; gateway and fanout share the objects."""
    run_id, content = f"large-{secrets.token_hex(4)}", payload(INLINE_BYTES_MAX + 1)
    gateway, fanout = (deployed.addresses[name] for name in ("gateway", "fanout"))
    async with aiohttp.ClientSession(headers={"X-API-Key": key}) as session:
        async with session.ws_connect(f"ws://{fanout}:8081/ws/runs/{run_id}/?resolve=true") as ws:
            assert (await ws.receive_json(timeout=NOTICED_S))["type"] == "hello"
            url = f"http://{gateway}:8080/api/runs/{run_id}/events?wait=persistence"
            headers = {"Content-Type": "application/json"}
            async with session.post(url, data=body(run_id, 1, content), headers=headers) as sent:
                assert (sent.status, (await sent.json())["waited"]) == (202, True)
            told = await ws.receive_json(timeout=NOTICED_S)
        assert told["event"]["payload"] == json.loads(content)
        async with session.get(f"http://{gateway}:8080/api/runs/{run_id}/events?resolve=true") as page:
            assert (await page.json())["events"][0]["payload"] == json.loads(content)


def test_the_command_works_within_the_deployment(deployed: Deployment, key: str) -> None:
    assert key.split("_")[1] in deployed.run("tidegate", "keys", "list")
    assert "evaluation.default" in deployed.run("tidegate", "lag")
    assert "(as /etc/tidegate/retention.toml says)" in deployed.run("tidegate", "retention", "plan")


def test_a_key_that_is_revoked_is_refused_by_running_containers(deployed: Deployment) -> None:
    made = create_key(deployed)
    wait_until(lambda: status(deployed, made) == 200, timeout_s=NOTICED_S, what="the new key to be accepted")
    deployed.run("tidegate", "keys", "revoke", made.split("_")[1], "--yes")
    wait_until(lambda: status(deployed, made) == 401, timeout_s=NOTICED_S, what="the revoked key to be refused")


def test_a_file_of_another_user_stops_the_start_with_what_to_do(deployed: Deployment, tmp_path: Path) -> None:
    """As `keys` on the machine leaves it in a folder that is mounted."""
    file = tmp_path / FILE
    file.write_bytes((deployed.volume("credentials") / FILE).read_bytes())
    file.chmod(0o600)
    mounts = [Mount(source=str(tmp_path), target=FOLDER, read_only=False)]
    os.chown(tmp_path, USER, USER)
    for command in (("gateway",), ("tidegate", "keys", "list")):
        with pytest.raises(ContainerFailed) as failed:
            deployed.run(*command, mounts=mounts)
        assert f"runs as user {USER}, and the file belongs to user 0 with mode 0600" in str(failed.value)
        assert f"chown {USER} {FILE}" in str(failed.value)
    file.chmod(0o640)
    os.chown(file, 0, USER)
    assert "revoked" in deployed.run("tidegate", "keys", "list", mounts=mounts)


def test_a_file_that_is_mounted_alone_is_written_in_place(deployed: Deployment, tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_bytes((deployed.volume("credentials") / FILE).read_bytes())
    file.chmod(0o640)
    os.chown(file, USER, USER)
    before = file.stat()
    mounts = [Mount(source=str(file), target=f"{FOLDER}/{FILE}", read_only=False)]
    made = create_key(deployed, mounts=mounts)
    assert file.stat().st_ino == before.st_ino
    assert made.split("_")[1] in credentials.parse(file.read_text()).keys
    read_only = [Mount(source=str(file), target=f"{FOLDER}/{FILE}", read_only=True)]
    said = deployed.run("tidegate", "keys", "create", "--tenant", "demo", "--right", "read", mounts=read_only)
    assert "cannot be written; add this entry to it" in said

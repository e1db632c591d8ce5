"""Everything over a Kafka that asks for TLS and a login; what is wrong with a connection is one clear line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.secured_kafka import SecuredKafka, secured_kafka
from tests.support.stack import tidegate

pytestmark = pytest.mark.timeout(600)

EXIT_NOT_REACHABLE = 3
EXIT_CONFIGURATION = 78
COMMAND_S = 300.0  # the demonstration embeds a novel


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with secured_kafka(tmp_path_factory.mktemp("secured")) as started:
        yield started


def run(*command: str, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a program of ours, whatever its exit code."""
    return subprocess.run(
        [sys.executable, "-m", *command], env=environ, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", pytest.param("PLAIN", marks=pytest.mark.soak)])
def test_the_whole_demonstration_runs_over_it(kafka: SecuredKafka, tmp_path: Path, mechanism: str) -> None:
    folder = tmp_path / "stack"
    environ = kafka.environ(TIDEGATE_KAFKA_MECHANISM=mechanism)
    try:
        shown = run("deploy.examples.demo", "--exit", "--dir", str(folder), environ=environ)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "Verified: the 130 events of 5 runs are in Postgres" in " ".join(shown.stdout.split())
        assert "-X security.protocol=SASL_SSL" in shown.stdout
        assert "correct-horse" not in shown.stdout + shown.stderr
    finally:
        tidegate("down", "--purge", "--dir", str(folder))
    for log in folder.glob("logs/*"):
        assert "correct-horse" not in log.read_text()


def wrong_password(kafka: SecuredKafka) -> dict[str, str]:
    path = kafka.folder / "wrong-password"
    path.write_text("guessed")
    return {"TIDEGATE_KAFKA_PASSWORD_FILE": str(path)}


def wrong_authority(kafka: SecuredKafka) -> dict[str, str]:
    return {"TIDEGATE_KAFKA_CA": str(Authority(kafka.folder, "stranger").certificate)}


def wrong_host(kafka: SecuredKafka) -> dict[str, str]:
    return {"TIDEGATE_KAFKA": kafka.connection.bootstrap.replace("127.0.0.1", "localhost")}


def no_security(kafka: SecuredKafka) -> dict[str, str]:
    given = kafka.environ().keys() - os.environ.keys() - {"TIDEGATE_KAFKA"}
    return dict.fromkeys(given, "")


FAULTS = {
    wrong_password: "refuses the login of 'tidegate': check TIDEGATE_KAFKA_USERNAME, TIDEGATE_KAFKA_PASSWORD_FILE",
    wrong_authority: "is refused: unable to get local issuer certificate; check TIDEGATE_KAFKA_CA",
    wrong_host: "is refused: Hostname mismatch, certificate is not valid for 'localhost'",
    no_security: "see that TIDEGATE_KAFKA_SECURITY=PLAINTEXT is what its listener asks for",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_command_says_what_is_wrong_with_the_connection(
    kafka: SecuredKafka, tmp_path: Path, fault: Callable[[SecuredKafka], dict[str, str]]
) -> None:
    environ = kafka.environ(**fault(kafka))
    for command in (["up", "--dir", str(tmp_path), "--ports", "auto"], ["lag", "--dir", str(tmp_path)]):
        ended = run("deploy.cli.app", *command, environ=environ)
        assert ended.returncode == EXIT_NOT_REACHABLE, ended.stderr
        line = ended.stderr.strip().splitlines()[-1]
        assert FAULTS[fault] in line


@pytest.mark.parametrize("process", [["gateway"], ["processors", "persistence"], ["processors", "fanout"]])
def test_a_process_says_it_and_does_not_start(kafka: SecuredKafka, tmp_path: Path, process: list[str]) -> None:
    credentials = tmp_path / "credentials.toml"
    told = {"TIDEGATE_CREDENTIALS": str(credentials), "TIDEGATE_POSTGRES": "postgresql://127.0.0.1:1/none"}
    tidegate("tenants", "add", "demo", "--dir", str(tmp_path), environ=os.environ | told)
    ended = run(*process, environ=kafka.environ(**told, **wrong_password(kafka)))
    assert ended.returncode == EXIT_CONFIGURATION, ended.stdout + ended.stderr
    assert FAULTS[wrong_password] in ended.stdout + ended.stderr

"""What a run ran in, captured within the gateway's bound."""

import json
import subprocess
from pathlib import Path

from gateway.client.environment import bounded, capture
from schemas.validity import ENVIRONMENT_BYTES_MAX


def test_only_chosen_variables_are_captured(tmp_path: Path) -> None:
    environ = {"REGION": "north", "OTHER": "unseen", "API_TOKEN": "abc"}
    captured = capture(variables=["REGION", "API_TOKEN", "ABSENT"], model=None, environ=environ, folder=tmp_path)
    assert captured["variables"] == {"REGION": "north", "API_TOKEN": "***"}
    assert captured["git_commit"] is None
    assert "aiohttp" in captured["packages"]


def test_the_git_commit_is_captured(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "--message", "first")
    captured = capture(variables=[], model="none", environ={}, folder=tmp_path)
    assert captured["git_commit"] == git("rev-parse", "HEAD")
    assert (captured["git_remote"], captured["git_changes"]) == (None, False)


def test_the_git_remote_is_shown_without_its_credentials(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("remote", "add", "origin", "https://ada:ghp_0123456789abcdefABCD@example.org/a/b.git")
    captured = capture(variables=[], model=None, environ={}, folder=tmp_path)
    assert captured["git_remote"] == "https://***@example.org/a/b.git"
    assert captured["git_commit"] is None, "nothing is committed"


def test_a_snapshot_is_within_what_the_gateway_takes(tmp_path: Path) -> None:
    """What is left out is counted; what is short comes first."""
    environ = {f"V{number:04}": "word " * 2000 for number in range(200)}
    captured = capture(variables=environ, model="m", environ=environ, folder=tmp_path)
    assert len(json.dumps(captured).encode()) <= ENVIRONMENT_BYTES_MAX
    variables = captured["variables"]
    assert isinstance(variables, dict)
    assert captured["left_out"] == {"variables": 200 - len(variables)}
    assert "V0000" in variables
    assert captured["packages"]


def test_packages_go_when_variables_are_not_enough() -> None:
    packages: dict[str, object] = {f"p{number}": "1" * 100 for number in range(100)}
    cut = bounded({"packages": packages, "variables": {"A": "b"}}, bytes_max=1000)
    assert cut["left_out"] == {"variables": 1, "packages": 100 - len(packages)}
    assert 0 < len(packages) < 10


def test_a_model_is_shown_without_a_key_in_its_address(tmp_path: Path) -> None:
    captured = capture(variables=[], model="https://host/v1?api_key=abc123&x=1", environ={}, folder=tmp_path)
    assert captured["model"] == "https://host/v1?***&x=1"

import subprocess
from pathlib import Path

import pytest

from gateway.client.environment import capture, redacted


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


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD", "github_token", "SECRET", "AWS_ACCESS_KEY_ID", "OPENAI_API_KEY", "APIKEY", "SENTRY_DSN"]
)
def test_a_variable_named_like_a_secret_is_hidden(name: str) -> None:
    assert redacted(name, "value") == "***"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://ada:pw@db/runs", "postgresql://***@db/runs"),
        ("tg_0a1b_deadbeef", "***"),
        ("use sk-abcdef123456 here", "use *** here"),
        ("ghp_abcdefghijklmnop1234", "***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.sig", "***"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END", "***"),
        ("\udcff", "?"),
    ],
)
def test_a_value_that_looks_like_a_secret_is_hidden(value: str, shown: str) -> None:
    assert redacted("SETTING", value) == shown


@pytest.mark.parametrize("value", ["/usr/bin:/bin", "en_GB.UTF-8", "https://example.org/a@b", "keyboard"])
def test_an_ordinary_value_is_shown(value: str) -> None:
    assert redacted("MONKEY", value) == value

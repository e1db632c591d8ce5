"""What is hidden of a value, and what is shown."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.process.redaction import CHARACTERS_MAX, CUT, HIDDEN, redacted, without_secrets, without_secrets_within


@pytest.mark.parametrize(
    "name",
    [
        *("DB_PASSWORD", "github_token", "SECRET", "AWS_ACCESS_KEY_ID", "OPENAI_API_KEY", "APIKEY", "SENTRY_DSN"),
        *("KEY", "SSH_KEY_PATH", "signingKey", "serviceKey", "AUTH_HEADER", "COOKIE", "AZURE_CONNECTION_STRING"),
    ],
)
def test_a_variable_named_like_a_secret_is_hidden(name: str) -> None:
    assert redacted(name, "value") == HIDDEN


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://ada:pw@db/runs", "postgresql://***@db/runs"),
        ("postgresql://ada:p@ss/w@rd@db/runs", "postgresql://***@db/runs"),
        ("https://token@host/x", "https://***@host/x"),
        ("redis://:pw@cache:6379/0", "redis://***@cache:6379/0"),
        ("tg_0a1b_deadbeef", "***"),
        ("use sk-abcdef123456 here", "use *** here"),
        ("sk-proj-abc_DEF-123456789", "***"),
        ("ghp_abcdefghijklmnop1234", "***"),
        ("github_pat_11AAAA_bbb", "***"),
        ("xoxb-123-456-abc", "***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "***"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.sig", "***"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nafter", "***\nafter"),
        ("-----BEGIN CERTIFICATE-----\nabc", "***"),
        ("host=db password=pw user=ada", "host=db *** user=ada"),
        ("--api-key=abc --verbose", "*** --verbose"),
        ('{"client_secret": "abc", "x": 1}', '{"***", "x": 1}'),
        ("https://host/blob?sv=1&sig=abc%2B&se=2", "https://host/blob?sv=1&***&se=2"),
        ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "***"),
        ("key 5d41402abc4b2a76b9719d911017c592 end", "key *** end"),
        ("\udcff", "?"),
        ("a\0b", "a?b"),
    ],
)
def test_a_value_that_looks_like_a_secret_is_hidden(value: str, shown: str) -> None:
    assert redacted("SETTING", value) == shown


@pytest.mark.parametrize(
    "value",
    [
        *("/usr/bin:/bin", "en_GB.UTF-8", "https://example.org/a@b", "keyboard", "monkey=1", "2026-01-01T00:00:00Z"),
        *(
            "/opt/hostedtoolcache/Python/3.11.7/x64/lib/python3.11/site-packages",
            "production-eu-west-1",
            "gpt-5.1-mini",
        ),
        *(
            "gpt-5.1-mini",
            "x" * 500,
            "6f1c2a7e-8d3b-4f6a-9b1c",
            "2.1.0+cu121.git",
            "description_of_what_this_service_is_for",
        ),
    ],
)
def test_an_ordinary_value_is_shown(value: str) -> None:
    assert redacted("MONKEY", value) == value


def test_everything_in_a_document_is_looked_at() -> None:
    given_ = {"a": [{"db": "x://u:p@h"}], "api_key": {"deep": 1}, "n": 1, "none": None, "tg_1_abc": "x"}
    shown = {"a": [{"db": "x://***@h"}], "api_key": HIDDEN, "n": 1, "none": None, HIDDEN: "x"}
    assert without_secrets_within(given_) == shown


def test_a_long_value_is_cut_behind_what_was_hidden_in_it() -> None:
    text = "word " * 2000
    assert without_secrets(text) == text[:CHARACTERS_MAX] + CUT
    assert "ghp_" not in without_secrets("a " * (CHARACTERS_MAX // 2 - 5) + "ghp_0123456789abcdefABCD")


@pytest.mark.parametrize(
    "piece", ["://a:", "eyJ", "eyJa.", "-----BEGIN A-----", "key", "secret", "a" * 31 + "-", "token:"]
)
def test_no_value_takes_long_to_look_at(piece: str) -> None:
    """A pattern that backtracks would hold the start of an agent up for minutes."""
    began_s = time.process_time()
    without_secrets(piece * 20_000)
    assert time.process_time() - began_s < 5


@given(st.text(), st.text(alphabet="abcdefghij0123456789", min_size=20, max_size=40), st.text())
def test_a_key_is_hidden_wherever_it_stands(before: str, key: str, after: str) -> None:
    assert f"tg_ab12_{key}" not in without_secrets(f"{before} tg_ab12_{key} {after}")

"""The credentials in force."""

import os
from pathlib import Path

import structlog

from gateway.keyring import KeyRing
from schemas.credentials import RELOAD_AFTER_S, CredentialsFile, write
from tests import builders


def test_a_bad_file_leaves_the_last_good_one_in_force_and_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "credentials.toml"
    write(path, builders.credentials())
    now_s = 0.0
    keys = KeyRing(CredentialsFile(path), monotonic=lambda: now_s)
    good = keys.current()
    path.write_text("nonsense")
    with structlog.testing.capture_logs() as told:
        for _ in range(3):
            now_s += RELOAD_AFTER_S
            assert keys.current() == good
        write(path, builders.credentials(allow_unsigned_direct=True))
        os.utime(path, (1, 1))
        now_s += RELOAD_AFTER_S
        assert keys.current() != good
    assert [line["log_level"] for line in told] == ["error", "info"]

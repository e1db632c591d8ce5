"""The API's description and the running gateway agree, as schemathesis finds by trying what the description says."""

import os
import subprocess
import sys
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local.stack_file import Stack
from tests.support.stack import READY_TIMEOUT_S, RunningStack, wait_until

SECONDS = 25  # what is tried does not depend on it, only how much of it
TIMEOUT_S = 280
SEED = 20261125
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
)
# A batch refuses event by event; Segment's libraries are answered 200 even so.
CONFIG = """
[[operations]]
include-path = "/api/runs/{run_id}/events/batch"
checks.negative_data_rejection.expected-statuses = ["207", "4xx", "5xx"]
[[operations]]
include-path-regex = "^/v1/"
checks.negative_data_rejection.expected-statuses = ["200", "4xx", "5xx"]
"""
ROOT = Path(__file__).parent.parent.parent


def test_the_gateway_does_what_its_description_says(stack: RunningStack, tmp_path: Path) -> None:
    """Valid and invalid input to every operation: no 5xx, no answer or acceptance that is not described."""
    known = stack.addresses
    # Tests before this one may have broken the gateway's connections to Kafka; a 503 for that is right, and no finding.
    wait_until(lambda: _status_is_shown(known), timeout_s=READY_TIMEOUT_S, what="the gateway to show the log's status")
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{known.gateway}/openapi.json"),
            *("--header", f"X-API-Key: {known.api_key}", "--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing", "--max-time", str(SECONDS), "--seed", str(SEED)),
            *("--suppress-health-check", "all", "--continue-on-failure", "--no-color", "--warnings", "off"),
        ],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.integration.openapi_bodies", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "generated" in done.stdout


def _status_is_shown(known: Stack) -> bool:
    connection = HTTPConnection(urlsplit(known.gateway).netloc, timeout=30)
    try:
        connection.request("GET", "/api/wal/status", headers={"X-API-Key": known.api_key})
        return connection.getresponse().status == HTTPStatus.OK
    finally:
        connection.close()

"""The API's description and the running gateway agree, as schemathesis finds by trying what the description says."""

import os
import subprocess
import sys
from pathlib import Path

from tests.stack import RunningStack

SECONDS = 60  # what is tried does not depend on it, only how much of it
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
# A batch refuses event by event.
CONFIG = """
[[operations]]
include-path = "/api/runs/{run_id}/events/batch"
checks.negative_data_rejection.expected-statuses = ["207", "4xx", "5xx"]
"""
ROOT = Path(__file__).parent.parent.parent


def test_the_gateway_does_what_its_description_says(stack: RunningStack, tmp_path: Path) -> None:
    """Valid and invalid input to every operation: no 5xx, no answer or acceptance that is not described."""
    known = stack.addresses
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

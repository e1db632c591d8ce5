"""Log lines: one line of JSON each, whatever is told in them."""

import json
import subprocess
import sys

HOSTILE = [
    "a\nb",
    "a\r\nb",
    "\x1b[31mred\x1b[0m",
    "a\u2028b",
    "a\u2029b",
    "a\x85b",
    "\x9b31m",
    "a\0b",
    "\ud800",
    "\u202eb",
    "é",
]
PROGRAM = """
import json, logging, sys
import structlog
from schemas.logs import log_as_json
log_as_json("INFO")
for text in json.loads(sys.argv[1]):
    structlog.get_logger().warning("told", run_id=text, **{text: 1})
    logging.getLogger("library").warning("told %s", text)
    try:
        raise ValueError(text)
    except ValueError as error:
        structlog.get_logger().error("failed", exc_info=error)
"""


def test_no_text_breaks_a_line_or_steers_a_terminal() -> None:
    """Line breaks of all kinds, escape sequences and lone surrogates stand escaped, and are read back as they were."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(HOSTILE)], capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()  # at every character that some reader takes for a line's end
    assert len(lines) == 3 * len(HOSTILE)
    assert all(" " <= character <= "~" for line in lines for character in line)
    assert [json.loads(line)["run_id"] for line in lines[::3]] == HOSTILE

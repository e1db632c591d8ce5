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
from schemas.process.logs import log_as_json
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


LIBRARIES = """
import asyncio, threading, warnings
from schemas.process.logs import log_as_json
from processors.runtime import dead_letters
from processors.runtime.errors import Transient
from schemas.kafka.connection import KafkaSettings
from schemas.runs.topics import PERSISTENCE

class Dropped:
    def __del__(self):
        raise ValueError("in a destructor")

async def write():
    writer = dead_letters.LogWriter(KafkaSettings(bootstrap="127.0.0.1:1"), client_id="x")
    try:
        await writer.write(PERSISTENCE.dead_letters, [dead_letters.OutgoingRecord(key=b"k", value=b"v", headers=[])])
    except Transient:
        pass

log_as_json("INFO")
dead_letters.ACKNOWLEDGED_WITHIN_S = 1.0
asyncio.run(write())
warnings.warn("a warning\\nof two lines")
thread = threading.Thread(target=lambda: {}["in a thread"])
thread.start()
thread.join()
Dropped()
raise OSError("in the main thread")
"""


def test_lines_of_libraries_and_errors_that_nothing_handles_are_json_with_their_time() -> None:
    """Librdkafka without a broker, a warning, and an uncaught error in each place where Python prints one."""
    done = subprocess.run([sys.executable, "-c", LIBRARIES], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(line["timestamp"].endswith("Z") for line in lines)
    told = "\n".join(json.dumps(line) for line in lines)
    for part in ("Connection refused", "a warning", "in a thread", "in a destructor", "in the main thread"):
        assert part in told
    assert done.returncode == 1

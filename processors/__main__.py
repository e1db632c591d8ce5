"""
`python -m processors NAME`: run one processor until SIGTERM; `python -m processors NAME --help` shows its options.

With `--replay FILE` a group's processor runs until that part of the log is handled once more.
"""

import argparse
import asyncio
import os
import sys
from typing import NoReturn

import structlog

from processors.app import PROCESSES
from processors.runtime import failpoints
from processors.runtime.errors import Transient, Unsettled
from processors.runtime.worker import end_process
from schemas.access.credentials import CredentialsInvalid
from schemas.process.logs import log_as_json
from schemas.process.settings import LogSettings, SettingsInvalid, load

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


def main() -> int:
    """Run the processor that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m processors")
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, process in PROCESSES.items():
        process.add_options(names.add_parser(name))
    options = parser.parse_args()
    log = structlog.get_logger()
    try:
        log_as_json(load(LogSettings, os.environ).level)
        failpoints.arm(os.environ.get("TIDEGATE_FAILPOINT", ""))
        asyncio.run(_run(options))
    except (SettingsInvalid, CredentialsInvalid, Unsettled, Transient) as error:
        log.critical("not started", processor=options.name, error=str(error))
        return EXIT_CONFIGURATION


async def _run(options: argparse.Namespace) -> NoReturn:
    end_process(await PROCESSES[options.name].run(os.environ, options))


if __name__ == "__main__":
    sys.exit(main())

"""
`python -m processors NAME`: run one processor until SIGTERM; with `--replay FILE`, until that range is handled.

`evaluation` runs for one endpoint: `--endpoint NAME`.
`maintenance --once` carries out one pass of retention and prints what it removed as JSON; with `--dry-run` it counts.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import NoReturn

import structlog

from processors.app import PROCESSORS
from processors.runtime import failpoints
from processors.runtime.errors import Transient, Unsettled
from processors.runtime.order import Order
from processors.runtime.worker import end_process
from schemas.access.credentials import CredentialsInvalid
from schemas.kafka import replays
from schemas.kafka.replays import Replay
from schemas.process.logs import log_as_json
from schemas.process.settings import SettingsInvalid

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


def main() -> int:
    """Run the processor that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m processors")
    parser.add_argument("name", choices=PROCESSORS)
    parser.add_argument("--replay", type=Path, metavar="FILE", help="the plan of `tidegate replay`")
    parser.add_argument("--endpoint", metavar="NAME", help="which one of the endpoints file, for `evaluation`")
    parser.add_argument("--once", action="store_true", help="maintenance: one pass of retention, its report on stdout")
    parser.add_argument("--dry-run", action="store_true", help="with --once: remove nothing, only count")
    given = parser.parse_args()
    if given.dry_run > given.once or (given.once and given.name != "maintenance"):
        parser.error("--once is for maintenance, and --dry-run for --once")
    log = structlog.get_logger()
    try:
        log_as_json(os.environ.get("TIDEGATE_LOG_LEVEL", "INFO"))
        failpoints.arm(os.environ.get("TIDEGATE_FAILPOINT", ""))
        replay = None if given.replay is None else _read(given.replay)
        order = Order(replay=replay, endpoint=given.endpoint, once=given.once, dry_run=given.dry_run)
        asyncio.run(_run(given.name, order))
    except (SettingsInvalid, CredentialsInvalid, Unsettled, Transient) as error:
        log.critical("not started", processor=given.name, reason=str(error))
        return EXIT_CONFIGURATION


def _read(plan: Path) -> Replay:
    try:
        return replays.read(plan)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"--replay {plan}: {error}") from error


async def _run(name: str, order: Order) -> NoReturn:
    end_process(await PROCESSORS[name](os.environ, order))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m processors NAME`: run one processor until SIGTERM."""

import asyncio
import os
import sys
from typing import NoReturn

import structlog

from processors.app import PROCESSORS, Processor
from processors.runtime import failpoints
from processors.runtime.errors import Transient, Unsettled
from processors.runtime.worker import end_process
from schemas.credentials import CredentialsInvalid
from schemas.logs import log_as_json
from schemas.settings import SettingsInvalid

EXIT_USAGE = 2
EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


def main() -> int:
    """Run the processor that the command line names; return the exit code."""
    if len(sys.argv) != 2 or sys.argv[1] not in PROCESSORS:  # noqa: PLR2004 - the program and one name
        print(f"usage: python -m processors {'|'.join(PROCESSORS)}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    log = structlog.get_logger()
    try:
        log_as_json(os.environ.get("TIDEGATE_LOG_LEVEL", "INFO"))
        failpoints.arm(os.environ.get("TIDEGATE_FAILPOINT", ""))
        asyncio.run(_run(PROCESSORS[sys.argv[1]]))
    except (SettingsInvalid, CredentialsInvalid, Unsettled, Transient) as error:
        log.critical("not started", processor=sys.argv[1], reason=str(error))
        return EXIT_CONFIGURATION


async def _run(processor: Processor) -> NoReturn:
    end_process(await processor(os.environ))


if __name__ == "__main__":
    sys.exit(main())

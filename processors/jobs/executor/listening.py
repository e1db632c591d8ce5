"""Notifications from Postgres: they wake an executor at once, and all goes on without them, a little later."""

import asyncio
from collections.abc import Callable

import psycopg
import structlog
from psycopg import AsyncConnection

RECONNECT_S = 2.0
CONNECT_S = 5
LISTEN = "LISTEN tidegate_jobs"

log = structlog.get_logger()


async def listen(dsn: str, wake: Callable[[str], None], *, application: str) -> None:
    """Give the payload of each notification to *wake*, until the task is cancelled."""
    failures = 0
    while True:
        try:
            connection = await AsyncConnection.connect(
                dsn, autocommit=True, connect_timeout=CONNECT_S, application_name=application
            )
            async with connection:
                await connection.execute(LISTEN)
                failures = 0
                async for notification in connection.notifies():
                    wake(notification.payload)
        except psycopg.Error as error:
            failures += 1
            if failures == 1:
                log.warning("no notifications from Postgres; jobs are found by looking", error=str(error))
        await asyncio.sleep(RECONNECT_S)

"""
Parsing of bodies: on the event loop where a body is small, by a `BodyParser` where it is not.

Why a process: the decoders are C, and 10 MiB of many small values hold the interpreter for up to a second in one call.
On a thread of this process that would stop the event loop, however many threads there are.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from gateway.errors import Forbidden, SignatureInvalid
from gateway.http.bodies import SMALL_BYTES_MAX, Body
from gateway.onethread import OneThread
from schemas.access.credentials import Credentials, CurrentCredentials

TOON_WAITING_MAX = 8  # larger TOON bodies, the one being translated included

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class BodyTask(Protocol[Result_co]):
    """A body, and what to parse it as."""

    @property
    def body(self) -> Body:
        """Return the body as it came."""

    def result(self, text: bytes, credentials: Credentials) -> Result_co:
        """Parse and validate the JSON *text* that the body stands for. Blocks unless that is small."""


class BodyParser(Protocol):
    """A parser of bodies that does not block the event loop."""

    async def parse(self, task: BodyTask[Any], credentials: Credentials) -> Any:
        """
        Return the result of *task* (of the type that its `result` returns) by *credentials*.

        Raises:
            QueueFull: too much is waiting, or the parser has exited. Nothing was written; answer 429.
            Exception: whatever `Body.json` and the task's `result` raise.
        """


class ThreadParser:
    """`BodyParser` on threads of this process."""

    def __init__(self) -> None:
        """Start nothing before the first task."""
        # Work in Python: several threads would do it no faster, and in several times the memory.
        self._translation = OneThread(
            "toon", waiting_max=TOON_WAITING_MAX, full="too many large TOON bodies wait; JSON is not concerned"
        )

    async def parse(self, task: BodyTask[Any], credentials: Credentials) -> Any:
        """See `BodyParser.parse`."""
        body = task.body
        if not body.is_toon:
            # Inflated there too: what waits for a thread stays packed.
            return await asyncio.to_thread(lambda: task.result(body.json(), credentials))
        json = await self._translation.run(body.json)
        return await asyncio.to_thread(task.result, json, credentials)


async def parse_body(
    task: BodyTask[Result], credentials: Credentials, *, parser: BodyParser, small_bytes_max: int = SMALL_BYTES_MAX
) -> Result:
    """Return the result of *task*: at once if its body is small, else by *parser*. Raises as `BodyParser.parse`."""
    if (small := task.body.if_small(small_bytes_max)) is not None:
        return task.result(small.json(), credentials)
    result: Result = await parser.parse(task, credentials)
    return result


async def parse_body_with_fresh_credentials(
    task: BodyTask[Result],
    used: Credentials,
    credentials: CurrentCredentials,
    *,
    parser: BodyParser,
    refuses: Callable[[Result], bool] = lambda _result: False,
) -> Result:
    """
    Return the result of *task* by *used*; by what the file says now, before an agent or its signature is refused.

    Raises as `parse_body`. *refuses* says whether a result that is returned contains such a refusal.
    """
    try:
        result = await parse_body(task, used, parser=parser)
    except (Forbidden, SignatureInvalid):
        if (newer := credentials.newer(used)) is None:
            raise
    else:
        if not refuses(result) or (newer := credentials.newer(used)) is None:
            return result
    return await parse_body(task, newer, parser=parser)

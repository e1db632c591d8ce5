"""
Who judges a body: the event loop where it is small, a `Judge` where it is not.

Why a process: the decoders are C, and 10 MiB of many small values hold the interpreter for up to a second in one call.
On a thread of this process that would stop the event loop, however many threads there are.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from gateway.errors import Forbidden, SignatureInvalid
from gateway.intake.bodies import SMALL_BYTES_MAX
from gateway.judging.questions import Question, Verdict
from gateway.onethread import OneThread
from schemas.access.credentials import Credentials, CurrentCredentials

TOON_WAITING_MAX = 8  # larger TOON bodies, the one being translated included


class Judge(Protocol):
    """Judges without holding up the event loop."""

    async def judge(self, question: Question[Any], credentials: Credentials) -> Any:
        """
        Return the verdict on *question* (of the type that its `verdict` returns) by *credentials*.

        Raises:
            QueueFull: too much waits already, or whatever judges has ended. Nothing was written; answer 429.
            Exception: whatever `Body.json` and the question's `verdict` raise.
        """


class ThreadJudge:
    """Judges on threads of this process."""

    def __init__(self) -> None:
        """Start nothing before the first question."""
        # Work in Python: several threads would do it no faster, and in several times the memory.
        self._translation = OneThread(
            "toon", waiting_max=TOON_WAITING_MAX, full="too many large TOON bodies wait; JSON is not concerned"
        )

    async def judge(self, question: Question[Any], credentials: Credentials) -> Any:
        """See `Judge.judge`."""
        body = question.body
        if not body.is_toon:
            # Inflated there too: what waits for a thread stays packed.
            return await asyncio.to_thread(lambda: question.verdict(body.json(), credentials))
        json = await self._translation.run(body.json)
        return await asyncio.to_thread(question.verdict, json, credentials)


async def judged(
    question: Question[Verdict], credentials: Credentials, *, otherwise: Judge, small_bytes_max: int = SMALL_BYTES_MAX
) -> Verdict:
    """Return the verdict on *question*: at once if its body is small, else that of *otherwise*. Raises as `Judge`."""
    if (small := question.body.if_small(small_bytes_max)) is not None:
        return question.verdict(small.json(), credentials)
    verdict: Verdict = await otherwise.judge(question, credentials)
    return verdict


async def judged_currently(
    question: Question[Verdict],
    used: Credentials,
    credentials: CurrentCredentials,
    *,
    otherwise: Judge,
    refuses: Callable[[Verdict], bool] = lambda _verdict: False,
) -> Verdict:
    """
    Return the verdict on *question* by *used*; by what the file says now, before an agent or its signature is refused.

    Raises as `judged`. *refuses* says whether a verdict that is returned contains such a refusal.
    """
    try:
        verdict = await judged(question, used, otherwise=otherwise)
    except (Forbidden, SignatureInvalid):
        if (newer := credentials.newer(used)) is None:
            raise
    else:
        if not refuses(verdict) or (newer := credentials.newer(used)) is None:
            return verdict
    return await judged(question, newer, otherwise=otherwise)

"""The texts and files of Puts, as intake stores them: texts normalised, references fetched."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from processors.documents.moves import JobError
from processors.documents.parsing.results import Reason
from processors.runtime.contract import Arrival
from processors.runtime.payloads import Payloads
from schemas.documents.records import PutDocument
from schemas.documents.rules import file_cost, text_fault
from schemas.documents.states import Failure, Stage
from schemas.documents.texts import normalised
from schemas.kafka.places import RecordPlace
from schemas.objects.references import PayloadProblem, from_json

IN_LOOP_CHARACTERS_MAX = 16 * 1024  # what is longer is normalised on a thread


class GivenText(NamedTuple):
    """The text of a Put, its digest and its cost; of a file its bytes, the rest to be found by its parser."""

    text: str | None = None
    sha256: bytes | None = None
    source: bytes | None = None
    cost: int = 0
    error: JobError | None = None


async def given_texts(arrivals: Sequence[Arrival[Any]], payloads: Payloads) -> dict[RecordPlace, GivenText]:
    """
    Return the texts of the Puts among *arrivals*, by their place: two of one job may have different ones.

    Raises:
        Transient: object storage is away.
    """
    puts = [each for each in arrivals if isinstance(each.record, PutDocument) and each.rejection is None]
    return {put.raw.place: await _given(put.record, payloads) for put in puts}


async def _given(put: PutDocument, payloads: Payloads) -> GivenText:
    source = put.source
    if source is not None and source.content is not None:
        return GivenText(source=source.content, cost=file_cost(len(source.content)))
    if source is not None:
        return await _file(source.content_ref or "", payloads)
    if put.text is not None:
        return await _normal(put.text)
    kept = await _fetched(put.text_ref or "", payloads)
    if isinstance(kept, JobError):
        return GivenText(error=kept)
    try:
        return await _normal(kept.decode())
    except UnicodeDecodeError:
        return GivenText(error=_failed("the text in object storage is not UTF-8"))


async def _file(reference: str, payloads: Payloads) -> GivenText:
    kept = await _fetched(reference, payloads)
    if isinstance(kept, JobError):
        return GivenText(error=kept)
    return GivenText(source=kept, cost=file_cost(len(kept)))


async def _fetched(reference: str, payloads: Payloads) -> bytes | JobError:
    try:
        named = from_json(reference)
    except (msgspec.DecodeError, ValueError) as error:
        return _failed(f"its reference to object storage cannot be read: {error}")
    kept = await payloads.fetch(named)
    if isinstance(kept, PayloadProblem):
        return _failed(f"object storage has no such text, or another one: {kept}")
    return kept


async def _normal(text: str) -> GivenText:
    if len(text) > IN_LOOP_CHARACTERS_MAX:
        return await asyncio.to_thread(_given_text, text)
    return _given_text(text)


def _given_text(text: str) -> GivenText:
    found = normalised(text).text
    if (fault := text_fault(found)) is not None:
        reason = Reason.TOO_MUCH_TEXT if found.strip() else Reason.NO_TEXT
        return GivenText(error=JobError(stage=Stage.INTAKE, reason=reason, detail=fault))
    return GivenText(text=found, sha256=hashlib.sha256(found.encode()).digest(), cost=len(found))


def _failed(detail: str) -> JobError:
    return JobError(stage=Stage.INTAKE, reason=Failure.TEXT_MISSING, detail=detail)

"""
The way from prepared documents to commands in the log, at the rate at which they become rows.

What is to be kept in object storage is kept before its record. A document that is there already under the same
Idempotency-Key is not written again: Postgres knows of those that are stored, and a bounded memory of those that this
gateway has just accepted; intake has the last word, also on the revision that a document must have.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.documents.pace import DocumentPace
from gateway.documents.parsing.prepared import DocumentOrigin, PreparedDocument
from gateway.documents.store import DocumentJobBrief, DocumentStore
from gateway.errors import HttpError, IdempotencyConflict, PreconditionFailed, SlowedDown, StoreUnavailable
from gateway.kafka.backlog import Backlog
from gateway.kafka.bursts import publish_all
from gateway.kafka.publisher import Publisher
from gateway.limits.throttle import UNNAMED, Charge, Throttle
from gateway.objects.uploads import Uploads
from schemas.access.credentials import Credentials
from schemas.documents.rules import NO_DOCUMENT
from schemas.documents.states import Lane
from schemas.kafka.places import RecordPlace

REMEMBERED_MAX = 20_000


@dataclass(frozen=True, slots=True)
class RecentJob:
    """A job that this gateway has just accepted."""

    tenant: str
    collection: str
    document: str
    content_sha256: bytes | None


class RecentJobs:
    """The newest jobs that this gateway accepted."""

    def __init__(self, *, jobs_max: int = REMEMBERED_MAX) -> None:
        """Remember at most *jobs_max* jobs."""
        self._jobs_max = jobs_max
        self._jobs: OrderedDict[str, RecentJob] = OrderedDict()

    def add(self, job_id: str, job: RecentJob) -> None:
        """Remember a job that is in the log."""
        self._jobs.setdefault(job_id, job)
        while len(self._jobs) > self._jobs_max:
            self._jobs.popitem(last=False)

    def find(self, tenant: str, job_id: str) -> RecentJob | None:
        """Return a job of a tenant; None if it is not known here."""
        job = self._jobs.get(job_id)
        return None if job is None or job.tenant != tenant else job


def check_content(document: PreparedDocument, digest: bytes | None) -> None:
    """Raise IdempotencyConflict unless *digest* is of the content of *document*."""
    if digest != document.content_sha256:
        raise IdempotencyConflict("the Idempotency-Key was used for another document")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentIntake:
    """The intake that publishes documents to the log."""

    publisher: Publisher
    throttle: Throttle
    uploads: Uploads
    store: DocumentStore
    backlog: Backlog
    pace: DocumentPace
    recent: RecentJobs = field(default_factory=RecentJobs)

    async def submit(
        self, documents: Sequence[PreparedDocument], origin: DocumentOrigin, credentials: Credentials
    ) -> tuple[Charge, Sequence[RecordPlace | DocumentJobBrief | HttpError]]:
        """
        Return the place of each document in the log, the job that is there already, or why it is not known to be there.

        Raises:
            BacklogFull: see `Backlog.check`. Nothing was written.
            OverLimit, SlowedDown: see `Throttle.charge_records` and `DocumentPace.admit`. Nothing was written.
        """
        tenant = origin.principal.tenant
        known = await self._known(tenant, documents)
        added = [document for document in documents if document.job_id not in known]
        await self.backlog.check(tenant, len(added))
        charge = self.throttle.charge_records(len(added), origin.principal, credentials)
        try:
            self.pace.admit(_costs(added))
        except SlowedDown:
            charge.give_back({UNNAMED: len(added)})
            raise
        lacking = await self._lacking(added)
        kept = [document for document in added if document.job_id not in lacking]
        outcomes = await publish_all(self.publisher, [document.record for document in kept])
        refused_count = len(lacking) + sum(isinstance(outcome, HttpError) for outcome in outcomes)
        charge.give_back({UNNAMED: refused_count})
        self.backlog.add(tenant, [each for each in outcomes if isinstance(each, RecordPlace)])
        for document, outcome in zip(kept, outcomes, strict=True):
            if isinstance(outcome, RecordPlace):
                job = RecentJob(tenant, document.collection, document.document, document.content_sha256)
                self.recent.add(document.job_id, job)
        by_id = {document.job_id: outcome for document, outcome in zip(kept, outcomes, strict=True)}
        return charge, [{**by_id, **lacking, **known}[document.job_id] for document in documents]

    async def _known(
        self, tenant: str, documents: Sequence[PreparedDocument]
    ) -> Mapping[str, DocumentJobBrief | HttpError]:
        """Return the jobs that are there already, or why a document is refused, by the id of what was sent."""
        known: dict[str, DocumentJobBrief | HttpError] = {}
        try:
            for document in documents:
                if (outcome := await self._found(tenant, document)) is not None:
                    known[document.job_id] = outcome
        except StoreUnavailable:
            pass  # accepted; intake finds what is there already
        return known

    async def _found(self, tenant: str, document: PreparedDocument) -> DocumentJobBrief | HttpError | None:
        try:
            if document.is_derived:
                if (recent := self.recent.find(tenant, document.job_id)) is not None:
                    check_content(document, recent.content_sha256)
                if (stored := await self.store.brief(tenant, document.job_id)) is not None:
                    check_content(document, stored.content_sha256)
                    return stored
            if document.expected_revision is not None:
                await self.check_revision(tenant, document.collection, document.document, document.expected_revision)
        except (IdempotencyConflict, PreconditionFailed) as error:
            return error
        return None

    async def check_revision(self, tenant: str, collection: str, document: str, expected: int) -> None:
        """
        Check the revision that a document must have, as far as rows tell: a newer one may be in the log.

        Raises:
            PreconditionFailed: it has another one for certain.
            StoreUnavailable: nothing is known.
        """
        found = await self.store.revisions(tenant, collection, document)
        if found is None:
            return
        if expected == NO_DOCUMENT:
            if found.exists:
                raise PreconditionFailed(f"there is a document; its revision is {found.latest}")
        elif found.latest > expected:
            raise PreconditionFailed(f"the newest revision of the document is {found.latest}")

    async def _lacking(self, documents: Sequence[PreparedDocument]) -> Mapping[str, HttpError]:
        """
        Keep what is too large for the log; return why a document's text is not there, by the id of its job.

        Later versions of the same document are held back too: sent again, the first would overtake them.
        """
        refusals = dict(await self.uploads.keep([each.upload for each in documents if each.upload is not None]))
        kept = {key for key, refusal in refusals.items() if refusal is None}
        copies = [each.copy for each in documents if each.copy is not None and each.copy.key not in kept]
        refusals |= await self.uploads.copy(copies)
        lacking: dict[str, HttpError] = {}
        refused: dict[tuple[str, str], HttpError] = {}
        for document in documents:
            name = (document.collection, document.document)
            large = document.upload or document.copy
            refusal = None if large is None else refusals[large.key]
            if (error := refused.get(name, refusal)) is not None:
                lacking[document.job_id] = refused[name] = error
        return lacking


def _costs(documents: Sequence[PreparedDocument]) -> Mapping[Lane, int]:
    costs: defaultdict[Lane, int] = defaultdict(int)
    for document in documents:
        costs[document.lane] += document.cost
    return costs

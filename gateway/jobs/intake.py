"""
The way from prepared jobs to commands in the log, at the rate at which they are stored.

A job that is there already is not written again: one of the same Idempotency-Key, or one that holds the same dedupe
key. Postgres knows of those that are stored, and a bounded memory of those that this gateway has just accepted;
intake has the last word.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import HttpError, IdempotencyConflict, StoreUnavailable
from gateway.jobs.parsing.prepared import JobOrigin, PreparedJob
from gateway.jobs.store import JobBrief, JobStore
from gateway.kafka.backlog import Backlog
from gateway.kafka.bursts import publish_all
from gateway.kafka.publisher import Publisher
from gateway.limits.throttle import UNNAMED, Charge, Throttle
from schemas.access.credentials import Credentials
from schemas.kafka.places import RecordPlace

REMEMBERED_MAX = 20_000


class RecentDigests:
    """The content of the newest jobs with an Idempotency-Key that this gateway accepted."""

    def __init__(self, *, jobs_max: int = REMEMBERED_MAX) -> None:
        """Remember at most *jobs_max* jobs."""
        self._jobs_max = jobs_max
        self._digests: OrderedDict[str, bytes] = OrderedDict()

    def add(self, job: PreparedJob) -> None:
        """Remember a job that is in the log."""
        self._digests.setdefault(job.job_id, job.content_sha256)
        while len(self._digests) > self._jobs_max:
            self._digests.popitem(last=False)

    def check(self, job: PreparedJob) -> None:
        """Raise IdempotencyConflict if the same key was used for other content."""
        check_content(job, self._digests.get(job.job_id, job.content_sha256))


def check_content(job: PreparedJob, digest: bytes) -> None:
    """Raise IdempotencyConflict unless *digest* is of the content of *job*."""
    if digest != job.content_sha256:
        raise IdempotencyConflict("the Idempotency-Key was used for another job")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIntake:
    """The intake that publishes jobs to the log."""

    publisher: Publisher
    throttle: Throttle
    store: JobStore
    backlog: Backlog
    recent: RecentDigests = field(default_factory=RecentDigests)

    async def submit(
        self, jobs: Sequence[PreparedJob], origin: JobOrigin, credentials: Credentials
    ) -> tuple[Charge, Sequence[RecordPlace | JobBrief | HttpError]]:
        """
        Return the place of each job in the log, the job that is there already, or why it is not known to be there.

        Raises:
            BacklogFull: see `Backlog.check`. Nothing was written.
            OverLimit, SlowedDown: see `Throttle.charge_records`. Nothing was written.
        """
        tenant = origin.principal.tenant
        known = await self._known(tenant, jobs)
        added = [job for job in jobs if job.job_id not in known]
        await self.backlog.check(tenant, len(added))
        charge = self.throttle.charge_records(len(added), origin.principal, credentials)
        outcomes = await publish_all(self.publisher, [job.record for job in added])
        charge.give_back({UNNAMED: sum(isinstance(outcome, HttpError) for outcome in outcomes)})
        self.backlog.add(tenant, [each for each in outcomes if isinstance(each, RecordPlace)])
        for job, outcome in zip(added, outcomes, strict=True):
            if job.is_derived and isinstance(outcome, RecordPlace):
                self.recent.add(job)
        places = iter(outcomes)
        return charge, [known[job.job_id] if job.job_id in known else next(places) for job in jobs]

    async def _known(self, tenant: str, jobs: Sequence[PreparedJob]) -> Mapping[str, JobBrief | HttpError]:
        """Return the jobs that are there already or conflict with one, by the id of what was sent."""
        known: dict[str, JobBrief | HttpError] = {}
        try:
            for job in jobs:
                if job.is_derived and (outcome := await self._repeated(tenant, job)) is not None:
                    known[job.job_id] = outcome
            keys = {(job.type, job.dedupe_key): None for job in jobs if job.dedupe_key and job.job_id not in known}
            if keys:
                asked = [(type_, key) for type_, key in keys if key is not None]
                holders = await self.store.holders(tenant, asked)
                for job in jobs:
                    holder = holders.get((job.type, job.dedupe_key or ""))
                    if holder is not None and job.job_id not in known:
                        known[job.job_id] = holder
        except StoreUnavailable:
            pass  # accepted; intake finds what is there already
        return known

    async def _repeated(self, tenant: str, job: PreparedJob) -> JobBrief | HttpError | None:
        try:
            self.recent.check(job)
            stored = await self.store.brief(tenant, job.job_id)
            if stored is not None:
                check_content(job, stored.content_sha256)
        except IdempotencyConflict as error:
            return error
        return stored

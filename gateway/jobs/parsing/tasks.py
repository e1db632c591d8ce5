"""Parsing tasks for jobs, their schedules and the changes of both."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.http.bodies import LINES, Body
from gateway.http.documents import read_object
from gateway.http.lists import split_lines, split_list
from gateway.jobs.parsing.changes import PreparedChange, PreparedSchedule, read_schedule
from gateway.jobs.parsing.prepared import JobOrigin, PreparedJob, PreparedJobs, prepare, prepare_all
from schemas.access.credentials import Credentials
from schemas.jobs.rules import BATCH_JOBS_MAX


class ParseJob(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses one job. Raises as `prepare`."""

    body: Body
    origin: JobOrigin

    def result(self, text: bytes, _credentials: Credentials) -> PreparedJob:
        """Return the job and its record."""
        return prepare(text, self.origin)


class ParseJobs(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses a batch; each job is valid or refused by itself."""

    body: Body
    origin: JobOrigin

    def result(self, text: bytes, _credentials: Credentials) -> PreparedJobs:
        """
        Return the jobs of a list, or of a document a line.

        Raises:
            NotJson, Invalid: it is no such list, or one of too many or none.
        """
        split = split_lines if self.body.media_type in LINES else split_list
        return prepare_all(split(text, count_max=BATCH_JOBS_MAX), self.origin)


class ParseSchedule(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses a schedule. Raises as `read_schedule`."""

    body: Body
    origin: JobOrigin

    def result(self, text: bytes, _credentials: Credentials) -> PreparedSchedule:
        """Return the schedule."""
        return read_schedule(text, self.origin)


class ParseChange(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses the JSON object of a change; an empty body is an empty object."""

    body: Body

    def result(self, text: bytes, _credentials: Credentials) -> PreparedChange:
        """Return the object. Raises NotJson or Invalid."""
        return PreparedChange(members=read_object(text, "a change").members)


BODY_TASKS: Mapping[type[Any], type[Any]] = {
    ParseJob: PreparedJob,
    ParseJobs: PreparedJobs,
    ParseSchedule: PreparedSchedule,
    ParseChange: PreparedChange,
}
"""The type of each task, and that of its result."""

"""The types of tasks that come with Tidegate."""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.access.credentials import Right
from schemas.jobs.types import MIB, TaskType

ECHO_DELAY_S_MAX = 3600.0
PROBE_TIMEOUT_S_MAX = 60.0


class EchoParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of `echo`."""

    value: Annotated[Any, Meta(description="Returned as it is")] = None
    delay_s: Annotated[float, Meta(description="Seconds to take", ge=0, le=ECHO_DELAY_S_MAX)] = 0.0
    fail_attempts: Annotated[int, Meta(description="Raise in so many attempts, to see retries", ge=0, le=100)] = 0


class ProbeParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of `http_probe`."""

    target: Annotated[
        str, Meta(description="A name in TIDEGATE_PROBE_TARGETS of the executor", pattern="^[a-z0-9][a-z0-9_-]{0,62}$")
    ]
    timeout_s: Annotated[float, Meta(description="Seconds to wait for an answer", gt=0, le=PROBE_TIMEOUT_S_MAX)] = 10.0
    expect_status: Annotated[
        Annotated[int, Meta(ge=100, le=599)] | None, Meta(description="Fail on any other status")
    ] = None


class OptimizeLevel(StrEnum):
    """The work of `maintenance/optimize-database`."""

    LIGHT = "light"
    STANDARD = "standard"
    HEAVY = "heavy"


class OptimizeParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of `maintenance/optimize-database`."""

    level: Annotated[
        OptimizeLevel,
        Meta(
            description="light: ANALYZE; standard: VACUUM (ANALYZE) with a report; heavy: REINDEX CONCURRENTLY of "
            "bloated indexes as well"
        ),
    ] = OptimizeLevel.STANDARD


ECHO = TaskType(
    name="echo",
    function="processors.jobs.tasks.echo:run",
    parameters=EchoParameters,
    description="Return a value, after a delay or failures: to try things out",
    soft_limit_s=ECHO_DELAY_S_MAX + 60,
    hard_limit_s=ECHO_DELAY_S_MAX + 120,
    retry_base_s=1.0,
    retry_cap_s=60.0,
    is_interruptible=True,
    examples=({"value": {"hello": "world"}}, {"value": 1, "delay_s": 0.5, "fail_attempts": 1}),
)
HTTP_PROBE = TaskType(
    name="http_probe",
    function="processors.jobs.tasks.http_probe:run",
    parameters=ProbeParameters,
    description="Ask a configured address and measure its answer",
    soft_limit_s=90.0,
    hard_limit_s=100.0,
    retry_base_s=30.0,
    is_interruptible=True,
    examples=({"target": "api", "expect_status": 200},),
)
OPTIMIZE_DATABASE = TaskType(
    name="maintenance/optimize-database",
    function="processors.jobs.tasks.optimize_database:run",
    parameters=OptimizeParameters,
    description="Analyze, vacuum or reindex Tidegate's tables, and say what it changed",
    queue="maintenance",
    right=Right.ADMIN,
    memory_bytes_max=512 * MIB,
    examples=({"level": "standard"},),
)

BUILTIN_TYPES = (ECHO, HTTP_PROBE, OPTIMIZE_DATABASE)

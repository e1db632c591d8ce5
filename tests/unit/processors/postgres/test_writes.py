"""What an error of Postgres, or of its client, means for the slice."""

import psycopg
import pytest
from psycopg import errors

from processors.postgres.writes import _meaning
from processors.runtime.errors import Transient
from schemas.errors import Poison


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (psycopg.OperationalError("the connection is lost"), Transient),
        (errors.AdminShutdown(), Transient),
        (errors.DiskFull(), Transient),
        (errors.CheckViolation(), Poison),
        (psycopg.DataError("timestamp too large (after year 10K)"), Poison),
        (errors.UndefinedColumn(), errors.UndefinedColumn),
    ],
)
def test_an_error_means_wait_or_poison_or_that_the_fault_is_ours(error: psycopg.Error, meaning: type) -> None:
    """A value that the client cannot send or read has no SQLSTATE, as a lost connection has none: no retry mends it."""
    assert isinstance(_meaning(error), meaning)

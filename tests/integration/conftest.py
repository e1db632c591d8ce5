"""Fixtures of the integration tests."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.stack import RunningStack


@pytest.fixture
def database(stack: RunningStack) -> Iterator[psycopg.Connection[Any]]:
    """Yield a session of the owner, each statement its own transaction."""
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as connection:
        yield connection

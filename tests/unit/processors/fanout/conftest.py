"""Fixtures of the live streams' tests."""

import pytest

from tests.faults.processes import free_port


@pytest.fixture
def unused_port() -> int:
    """A port that nothing listens on."""
    return free_port()

from collections.abc import AsyncIterator

import pytest

from tests.unit.gateway.client.fake_gateway import FakeGateway


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway().running() as running:
        yield running

"""Whom `?wait=` lets a client wait for."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import BadQuery
from gateway.handlers.waiting import read_wait
from gateway.receipts.endpoints import EndpointViews
from schemas.access.credentials import Principal, Right
from schemas.pacing.breaker import BreakerState
from schemas.runs.records import EndpointState
from schemas.runs.topics import EVALUATION, PERSISTENCE
from tests.builders import TENANT

GROUPS = [PERSISTENCE, EVALUATION.group("ours", delays=[]), EVALUATION.group("theirs", delays=[])]


def asking(name: str) -> Any:
    """A call that asks to wait for the group *name*."""
    owners = {"ours": TENANT, "theirs": "another"}
    states = {
        endpoint: EndpointState(
            endpoint=endpoint, tenant=tenant, types=["*"], breaker=BreakerState.CLOSED, since=datetime.now(UTC)
        )
        for endpoint, tenant in owners.items()
    }
    followers = {group.name: SimpleNamespace(group=group) for group in GROUPS}
    return SimpleNamespace(
        request=SimpleNamespace(query_string=f"wait={name}", query={"wait": name}),
        parts=SimpleNamespace(followers=followers, endpoints=EndpointViews(states)),
        principal=Principal(key_id="k", tenant=TENANT, rights=frozenset([Right.INGEST]), agents=None),
    )


@pytest.mark.parametrize("name", ["persistence", "evaluation.ours"])
def test_persistence_and_the_tenants_own_endpoints_may_be_waited_for(name: str) -> None:
    follower: Any = read_wait(asking(name))
    assert follower.group.name == name


@pytest.mark.parametrize("name", ["evaluation.theirs", "nobody", ""])
def test_of_another_tenants_endpoint_a_client_hears_nothing(name: str) -> None:
    with pytest.raises(BadQuery) as refused:
        read_wait(asking(name))
    assert "ours" in str(refused.value)
    assert "theirs" not in str(refused.value)

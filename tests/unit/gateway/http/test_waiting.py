"""Whom `?wait=` lets a client wait for."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import BadQuery
from gateway.http.waiting import Waiting
from gateway.status.endpoints import EndpointViews
from schemas.access.credentials import Principal, Right
from schemas.pacing.breaker import BreakerState
from schemas.runs.records import EndpointState
from schemas.runs.topics import EVALUATION, PERSISTENCE
from tests.support.builders import TENANT
from tests.support.fakes import MemoryLog

GROUPS = [PERSISTENCE, EVALUATION.group("ours", delays=[]), EVALUATION.group("theirs", delays=[])]


def read(name: str) -> Any:
    """Return who is to be waited for by a call that asks for the group *name*."""
    owners = {"ours": TENANT, "theirs": "another"}
    states = {
        endpoint: EndpointState(
            endpoint=endpoint, tenant=tenant, types=["*"], breaker=BreakerState.CLOSED, since=datetime.now(UTC)
        )
        for endpoint, tenant in owners.items()
    }
    followers: Any = {group.name: SimpleNamespace(group=group) for group in GROUPS}
    views = EndpointViews(states)
    waiting = Waiting(followers, log=MemoryLog(), is_seen=views.is_seen)
    call: Any = SimpleNamespace(
        request=SimpleNamespace(query_string=f"wait={name}", query={"wait": name}),
        principal=Principal(key_id="k", tenant=TENANT, rights=frozenset([Right.INGEST]), agents=None),
    )
    return waiting.read(call)


@pytest.mark.parametrize("name", ["persistence", "evaluation.ours"])
def test_persistence_and_the_tenants_own_endpoints_may_be_waited_for(name: str) -> None:
    assert read(name).group.name == name


@pytest.mark.parametrize("name", ["evaluation.theirs", "nobody", ""])
def test_of_another_tenants_endpoint_a_client_hears_nothing(name: str) -> None:
    with pytest.raises(BadQuery) as refused:
        read(name)
    assert "ours" in str(refused.value)
    assert "theirs" not in str(refused.value)

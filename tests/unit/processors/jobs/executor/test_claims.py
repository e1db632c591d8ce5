"""Shares of a claim."""

from hypothesis import given
from hypothesis import strategies as st

from processors.jobs.executor.claims import _full_tenants, _quotas

TENANTS = [f"t{number}" for number in range(8)]


@given(
    tenants=st.lists(st.sampled_from(TENANTS), unique=True),
    left=st.integers(1, 64),
    running=st.dictionaries(st.sampled_from(TENANTS), st.integers(0, 20)),
    most=st.none() | st.integers(1, 10),
)
def test_shares_are_alike_within_limits_and_no_more_than_asked(
    tenants: list[str], left: int, running: dict[str, int], most: int | None
) -> None:
    quotas = _quotas(tenants, left, running, most)
    assert set(quotas) <= set(tenants)
    assert sum(quotas.values()) <= left
    assert all(quota > 0 for quota in quotas.values())
    for tenant, quota in quotas.items():
        assert most is None or running.get(tenant, 0) + quota <= most
    if most is None and tenants:
        assert sum(quotas.values()) == left
        assert max(quotas.values()) - min(quotas.values()) <= 1


def test_where_there_is_less_than_a_job_each_the_first_have_one() -> None:
    assert _quotas(["a", "b", "c"], 2, {}, None) == {"a": 1, "b": 1}


def test_a_tenant_at_its_limit_leaves_its_share_to_the_others() -> None:
    assert _quotas(["a", "b"], 4, {"a": 2}, 2) == {"b": 2}


def test_where_all_are_at_their_limit_there_are_no_shares() -> None:
    assert _quotas(["a"], 4, {"a": 2}, 2) == {}
    assert _full_tenants({"a": 2, "b": 1}, 2) == ["a"]
    assert _full_tenants({"a": 2}, None) == []

"""The quotas of a provider: in no minute more than it allows is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents.embedding.quotas import ProviderQuota

REQUESTS = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 30)), min_size=1, max_size=60)


@given(REQUESTS, st.integers(300, 5_000))
def test_no_minute_has_more_than_the_quota(requests: list[tuple[float, int]], per_minute: int) -> None:
    quota = ProviderQuota(per_minute)
    now_s = 0.0
    sent = []
    for pause_s, amount in requests:
        now_s += pause_s
        sent.append((now_s + quota.reserve(amount, now_s), amount))
    for start_s, _ in sent:
        within = sum(amount for at_s, amount in sent if start_s <= at_s < start_s + 60)
        assert within <= per_minute + 1e-3


@given(REQUESTS)
def test_requests_keep_their_order(requests: list[tuple[float, int]]) -> None:
    quota = ProviderQuota(600)
    now_s, last_s = 0.0, 0.0
    for pause_s, amount in requests:
        now_s += pause_s
        sent_at_s = now_s + quota.reserve(amount, now_s)
        assert sent_at_s >= last_s - 1e-6
        last_s = sent_at_s


def test_what_is_reserved_delays_the_next_by_its_cost() -> None:
    quota = ProviderQuota(600)  # 60 at once, 9 a second
    assert quota.reserve(60, 0.0) == 0
    assert quota.reserve(90, 0.0) == pytest.approx(10.0)
    assert quota.backlog_s(0.0) == pytest.approx(10.0)
    assert quota.backlog_s(10.0) == pytest.approx(0.0)


def test_without_a_quota_nothing_waits() -> None:
    quota = ProviderQuota(0)
    assert quota.reserve(10**9, 0.0) == 0
    assert quota.backlog_s(0.0) == 0

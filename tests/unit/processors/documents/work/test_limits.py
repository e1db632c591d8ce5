"""The stages are as large as their environment, and no pool is larger than its cores."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.documents.work.limits import StageSettings, cores_allowed
from schemas.documents.presets import LIMITS, Environment, StageLimits
from schemas.process.settings import SettingsInvalid, load


def limits_by(**environ: str) -> StageLimits:
    return load(StageSettings, {f"TIDEGATE_DOCUMENTS_{name}": text for name, text in environ.items()}).limits()


def workers(limits: StageLimits) -> tuple[int, int, int]:
    return limits.chunk_workers, limits.embed_workers, limits.store_workers


def batches(limits: StageLimits) -> set[int]:
    return {limits.chunk_batch, limits.embed_batch, limits.store_batch}


@pytest.mark.parametrize(
    ("name", "of_stages", "in_batches"),
    [
        ("local", (2, 2, 2), {5}),
        ("standard", (4, 6, 4), {4, 10}),
        ("high_throughput", (8, 12, 8), {10}),
    ],
)
def test_the_environments_are_the_ones_that_users_know(
    name: str, of_stages: tuple[int, int, int], in_batches: set[int]
) -> None:
    assert workers(limits_by(PRESET=name)) == of_stages
    assert batches(limits_by(PRESET=name)) == in_batches


def test_without_a_setting_they_are_standard() -> None:
    assert limits_by() == LIMITS[Environment.STANDARD]


@pytest.mark.parametrize("name", StageLimits.__dataclass_fields__)
def test_each_value_can_be_set_apart(name: str) -> None:
    limits = limits_by(PRESET="local", **{name.upper(): "7"})
    standard = LIMITS[Environment.LOCAL]
    changed = {each for each in StageLimits.__dataclass_fields__ if getattr(limits, each) != getattr(standard, each)}
    assert (changed, getattr(limits, name)) == ({name}, 7)


@pytest.mark.parametrize(("name", "text"), [("PRESET", "huge"), ("EMBED_WORKERS", "-1"), ("CHUNK_BATCH", "many")])
def test_what_is_no_limit_stops_the_start(name: str, text: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"TIDEGATE_DOCUMENTS_{name}"):
        limits_by(**{name: text})


@given(st.sampled_from(Environment), st.integers(1, 256))
def test_no_pool_has_more_threads_than_cores_or_workers(name: Environment, cores: int) -> None:
    limits = LIMITS[name]
    assert 1 <= limits.chunk_threads(cores) <= min(cores, limits.chunk_workers)
    assert 1 <= limits.embed_threads(cores) <= min(cores, limits.embed_workers)
    if cores > 1:
        assert limits.embed_threads(cores) < cores


def test_the_cores_are_those_that_the_process_may_use() -> None:
    assert 1 <= cores_allowed() <= (os.cpu_count() or 1)

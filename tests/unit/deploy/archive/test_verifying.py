"""What is wrong with an archive is found and named: a flipped byte, a missing and a truncated object."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from deploy.archive.verifying import FaultKind, Proof, verify
from deploy.errors import NotReachable
from schemas.archive.names import Branch, ObjectName
from schemas.archive.storage import StorageAway, StoredArchive, prefix_of
from tests.support.archive import MemoryArchive, put

BRANCH = Branch(topic="user.events", topic_id="abc", partition=3)
NAMES = [ObjectName(branch=BRANCH, first=first) for first in (0, 10, 20)]


@pytest.fixture
def storage() -> MemoryArchive:
    """Return an archive of three objects."""
    made = MemoryArchive()
    for name in NAMES:
        put(made, name, range(name.first, name.first + 10))
    return made


def proof(storage: MemoryArchive, committed: Mapping[Branch, int] | None = None, *, deep: bool = True) -> Proof:
    found = Proof(faults=[])
    for _ in verify(storage, prefix_of(), committed or {}, deep=deep, proof=found):
        pass
    return found


def test_a_whole_archive_has_no_fault(storage: MemoryArchive) -> None:
    found = proof(storage, {BRANCH: 30})
    assert (found.objects, found.records, found.faults) == (3, 30, [])


@dataclass(frozen=True)
class Case:
    """A fault, how it comes about, and what is said of it."""

    name: str
    break_it: Callable[[MemoryArchive], object]
    kind: FaultKind
    object: ObjectName
    is_in_footer: bool = True  # found without reading contents


def flip(storage: MemoryArchive) -> None:
    whole = storage.objects[NAMES[1].key]
    storage.objects[NAMES[1].key] = whole[:60] + bytes([whole[60] ^ 4]) + whole[61:]


def truncate(storage: MemoryArchive) -> None:
    storage.objects[NAMES[1].key] = storage.objects[NAMES[1].key][:-9]


def swap(storage: MemoryArchive) -> None:
    storage.objects[NAMES[1].key] = storage.objects[NAMES[2].key]


CASES = [
    Case("flipped byte", flip, FaultKind.DAMAGED, NAMES[1], is_in_footer=False),
    Case("truncated", truncate, FaultKind.DAMAGED, NAMES[1]),
    Case("another's content", swap, FaultKind.DAMAGED, NAMES[1]),
    Case("missing in the middle", lambda storage: storage.objects.pop(NAMES[1].key), FaultKind.MISSING, NAMES[1]),
    Case("missing at the end", lambda storage: storage.objects.pop(NAMES[2].key), FaultKind.MISSING, NAMES[2]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_fault_is_named_once(storage: MemoryArchive, case: Case) -> None:
    case.break_it(storage)
    [fault] = proof(storage, {BRANCH: 30}).faults
    assert (fault.kind, fault.object) == (case.kind, case.object.key)
    assert len(proof(storage, {BRANCH: 30}, deep=False).faults) == case.is_in_footer


def test_a_missing_beginning_is_what_retention_leaves(storage: MemoryArchive) -> None:
    del storage.objects[NAMES[0].key]
    assert proof(storage, {BRANCH: 30}).faults == []


def test_an_object_within_another_is_a_leftover(storage: MemoryArchive) -> None:
    leftover = ObjectName(branch=BRANCH, first=15)
    put(storage, leftover, [15, 16])
    [fault] = proof(storage).faults
    assert (fault.kind, fault.object) == (FaultKind.LEFTOVER, leftover.key)


def test_an_archive_may_be_further_than_what_is_committed(storage: MemoryArchive) -> None:
    other = Branch(topic="user.events", topic_id="abc", partition=4)
    assert proof(storage, {BRANCH: 20, other: 50}).faults == []


def test_a_storage_that_is_away_is_not_reachable() -> None:
    class Away(MemoryArchive):
        def list(self, prefix: str) -> list[StoredArchive]:  # type: ignore[override]
            raise StorageAway(prefix)

    with pytest.raises(NotReachable):
        proof(Away())

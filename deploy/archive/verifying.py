"""
A proof that archived objects are whole: each is what was written, and nothing is missing between them.

A chain's end is compared with what its group has committed: offsets before that are in an object. Its beginning is
wherever retention has left it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from deploy.archive.reading import BranchObjects, failures, read
from schemas.archive.names import Branch
from schemas.archive.objects import ObjectDamaged, read_object
from schemas.archive.storage import ArchiveStorage


class FaultKind(StrEnum):
    """The ways in which an archive is not whole."""

    DAMAGED = "damaged"
    MISSING = "missing"
    LEFTOVER = "leftover"  # harmless: within what another object covers, and never read


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFault:
    """One fault, and the object that it concerns."""

    kind: FaultKind
    object: str  # its name; of one that is missing, the name that it would have
    detail: str


@dataclass(kw_only=True)
class Proof:
    """The count of what was found whole, and the faults."""

    objects: int = 0
    records: int = 0
    faults: list[ArchiveFault]


def verify(
    storage: ArchiveStorage, prefix: str, committed: Mapping[Branch, int], *, deep: bool, proof: Proof
) -> Iterator[str]:
    """
    Prove the objects below *prefix* in *proof*; yield the name of each one that was looked at.

    *committed* are the offsets up to which each partition must be archived; it was asked before. Unless *deep*, only
    names and footers are read.

    Raises:
        NotReachable: object storage is away.
    """
    found = read(storage, prefix)
    for branch, objects in found.items():
        proof.faults += _of_chain(branch, objects, committed.get(branch))
        for link in objects.chain.links:
            yield link.name.key
            try:
                if deep:
                    with failures():
                        for _ in read_object(storage.chunks(link.name), link.name):
                            pass
            except ObjectDamaged as error:
                proof.faults.append(ArchiveFault(kind=FaultKind.DAMAGED, object=link.name.key, detail=str(error)))
            else:
                proof.objects += 1
                proof.records += link.footer.count
    for branch in committed.keys() - found.keys():
        proof.faults += _of_end(branch, None, committed[branch])


def _of_chain(branch: Branch, objects: BranchObjects, committed: int | None) -> Iterator[ArchiveFault]:
    damaged = {each.name.first for each in objects.damaged}
    for each in objects.damaged:
        yield ArchiveFault(kind=FaultKind.DAMAGED, object=each.name.key, detail=each.reason)
    for gap in objects.chain.gaps:
        if gap.first not in damaged:
            yield _missing(branch, gap.first, f"offsets {gap.first} to {gap.next - 1} are in no object")
    for name in objects.chain.leftovers:
        detail = "its offsets are in the object before it, so it is never read"
        yield ArchiveFault(kind=FaultKind.LEFTOVER, object=name.key, detail=detail)
    if committed is not None and objects.chain.next not in damaged:
        yield from _of_end(branch, objects.chain.next, committed)


def _of_end(branch: Branch, end: int | None, committed: int) -> Iterator[ArchiveFault]:
    """Yield a fault if the chain that ends at *end*, None without an object, lacks what the group has committed."""
    if end is not None and end < committed:
        yield _missing(branch, end, f"the group has committed {committed}, and the last object ends at {end}")


def _missing(branch: Branch, first: int, detail: str) -> ArchiveFault:
    name = f"{branch.prefix}{first:020}.jsonl.zst"
    return ArchiveFault(kind=FaultKind.MISSING, object=name, detail=detail)

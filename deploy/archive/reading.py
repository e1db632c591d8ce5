"""The chains of archived objects, from a listing and the objects' footers."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import CommandFailed, NotReachable
from deploy.local import settings_file
from schemas.archive.chain import Chain, Link, chain
from schemas.archive.footer import Footer
from schemas.archive.names import Branch, ObjectName
from schemas.archive.objects import ObjectDamaged
from schemas.archive.storage import ArchiveStorage, ObjectMissing, ObstoreArchive, StorageAway, StoredArchive, branches

FOOTERS_AT_ONCE = 16
SERVICE = "gateway"  # every service of a stack is told the same location
OBJECTS = "TIDEGATE_OBJECTS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """An object that is not what was written, and in which way."""

    name: ObjectName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchObjects:
    """The objects of one partition: the chain of those with a footer, the others, and the sizes of all."""

    chain: Chain
    damaged: Sequence[Damage]
    sizes: Mapping[ObjectName, int]  # in bytes


def location(folder: Path, environ: Mapping[str, str]) -> str:
    """
    Return where object storage is: as *environ* says, else as the stack in *folder* was told.

    Raises:
        NotReachable: neither says it.
    """
    told = (settings_file.read(folder) or {}).get(SERVICE, {}).get(OBJECTS)
    if (found := environ.get(OBJECTS) or told) is None:
        raise NotReachable(f"no object storage is known in {folder}: start a stack with `tidegate up` or set {OBJECTS}")
    return found if "://" in found else str(Path(found).expanduser().absolute())


def storage(folder: Path, environ: Mapping[str, str]) -> ObstoreArchive:
    """Return the object storage at `location`. Raises NotReachable, SettingsInvalid."""
    return ObstoreArchive(location(folder, environ))


def read(of: ArchiveStorage, prefix: str) -> Mapping[Branch, BranchObjects]:
    """Return the objects below *prefix* by partition. Raises NotReachable."""
    with failures():
        found = branches(of.list(prefix))
        with ThreadPoolExecutor(FOOTERS_AT_ONCE, thread_name_prefix="footers") as threads:
            every = [stored for of_branch in found.values() for stored in of_branch]
            footers = dict(zip(every, threads.map(lambda stored: _footer(of, stored), every), strict=True))
    return {branch: _objects(of_branch, footers) for branch, of_branch in found.items()}


@contextmanager
def failures() -> Iterator[None]:
    """Turn what object storage raises into what ends a command."""
    try:
        yield
    except StorageAway as error:
        raise NotReachable(str(error)) from error
    except ObjectMissing as error:
        raise CommandFailed(f"object {error} was removed meanwhile; run the command again") from error


def demand_readable(objects: BranchObjects) -> None:
    """Raise CommandFailed if an object of the partition has no footer."""
    for each in objects.damaged:
        raise CommandFailed(f"object {each.name.key} is damaged: {each.reason}; see `tidegate archive verify`")


def _footer(of: ArchiveStorage, stored: StoredArchive) -> Footer | Damage | None:
    try:
        return of.footer(stored.name, stored.size_bytes)
    except ObjectDamaged as error:
        return Damage(name=stored.name, reason=str(error))
    except ObjectMissing:  # removed by retention since it was listed
        return None


def _objects(found: Sequence[StoredArchive], footers: Mapping[StoredArchive, Footer | Damage | None]) -> BranchObjects:
    links = [Link(name=each.name, footer=footer) for each in found if isinstance(footer := footers[each], Footer)]
    return BranchObjects(
        chain=chain(links),
        damaged=[damage for each in found if isinstance(damage := footers[each], Damage)],
        sizes={each.name: each.size_bytes for each in found},
    )

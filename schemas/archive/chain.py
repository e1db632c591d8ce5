"""
The chain of a partition's objects: each begins at the offset that the one before names as the next.

The chain is the manifest: a listing and the footers prove that nothing is missing between its ends. An object whose
name lies within what another covers is a leftover and never read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.archive.footer import Footer
from schemas.archive.names import ObjectName


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An object of a chain."""

    name: ObjectName
    footer: Footer


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Offsets within a chain that no object covers."""

    first: int
    next: int  # where the next object begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The objects of one partition, in order."""

    links: Sequence[Link]
    gaps: Sequence[Gap]
    leftovers: Sequence[ObjectName]

    @property
    def first(self) -> int | None:
        """Return the first offset that it covers; None without an object."""
        return self.links[0].footer.first if self.links else None

    @property
    def next(self) -> int | None:
        """Return the offset behind what it covers; None without an object."""
        return self.links[-1].footer.next if self.links else None

    def covering(self, first: int, end: int) -> Sequence[Link]:
        """Return the objects that cover any of *first* to *end*."""
        return [link for link in self.links if link.footer.first < end and link.footer.next > first]

    def lacking(self, first: int, end: int) -> Sequence[Gap]:
        """Return which of *first* to *end* no object covers."""
        lacking, at = [], first
        for link in self.covering(first, end):
            if link.footer.first > at:
                lacking.append(Gap(first=at, next=link.footer.first))
            at = link.footer.next
        return [*lacking, *([Gap(first=at, next=end)] if at < end else [])]


def chain(found: Iterable[Link]) -> Chain:
    """Return the chain that the objects *found* of one partition make."""
    links: list[Link] = []
    gaps: list[Gap] = []
    leftovers: list[ObjectName] = []
    for link in sorted(found, key=lambda each: each.name.first):
        at = links[-1].footer.next if links else link.name.first
        if link.name.first < at:
            leftovers.append(link.name)
            continue
        if link.name.first > at:
            gaps.append(Gap(first=at, next=link.name.first))
        links.append(link)
    return Chain(links=links, gaps=gaps, leftovers=leftovers)

"""
Texts of documents in the one form that is hashed, chunked and stored.

It is NFC (UAX #15), its lines end with a line feed alone, and it has neither the characters that Postgres refuses (NUL,
lone surrogates) nor invisible ones that split words. The joiners ZWJ and ZWNJ stay: they change what is read.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

# NUL, lone surrogates, soft hyphen, zero width space, word joiner, byte order mark.
_DROPPED = "\x00\ud800-\udfff\u00ad\u200b\u2060\ufeff"
# A line's end may have dropped characters within: it is one all the same.
_REWRITTEN = re.compile(rf"\r(?:[{_DROPPED}]*\n)?|[{_DROPPED}]+")
# Marks and others that may become one character with what is before them; all lie above U+0300, see `_patterns`.
_HANGUL_VOWELS_AND_TAILS = "\u1160-\u11ff\ud7b0-\ud7fb"
_KIRAT_RAI_VOWELS = "\U00016d63-\U00016d6a"
_COMPOSED_FROM = 0x300
_MARKS_TO = 0x1F000
# Python sorts marks by insertion, which takes hours for a million: what is longer is put in order here before.
_SEGMENT_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True)
class Normalised:
    """A text in normal form, and the way back to its source."""

    text: str
    _stages: tuple["_Offsets", ...]  # the last one first

    def source_offset(self, at: int) -> int:
        """
        Return the offset in the source of the character at *at* in `text`; at its end, the source's end.

        Where characters became one, or one became several, it is the offset of the first of the source's.
        """
        for stage in self._stages:
            at = stage.source(at)
        return at


def normalised(text: str) -> Normalised:
    """Return *text* in normal form; what is in it already stays as it is."""
    if text.isascii() and "\r" not in text and "\x00" not in text:
        return Normalised(text, ())
    cleaned, dropped = _cleaned(text)
    composed, moved = _composed(cleaned)
    return Normalised(composed, tuple(stage for stage in (moved, dropped) if stage is not None))


class _Offsets:
    """A monotone map of offsets, kept only where the distance between the two texts changes."""

    __slots__ = ("_ats", "_end", "_sources")

    def __init__(self) -> None:
        self._ats = [0]
        self._sources = [0]
        self._end = 0

    def move(self, at: int, source: int) -> None:
        """Note that the text goes on at *at* with what is at *source*."""
        if at == self._ats[-1]:  # nothing came out of what lies between
            self._sources[-1] = source
        elif source - at != self._sources[-1] - self._ats[-1]:
            self._ats.append(at)
            self._sources.append(source)

    def close(self, at: int, source: int) -> None:
        """Note both ends."""
        self.move(at, source)
        self._end = source

    def source(self, at: int) -> int:
        """Return the source's offset of *at*."""
        run = bisect_right(self._ats, at) - 1
        found = self._sources[run] + at - self._ats[run]
        # Within what became longer there are fewer characters to point at.
        return min(found, self._sources[run + 1] if run + 1 < len(self._ats) else self._end)


def _cleaned(text: str) -> tuple[str, _Offsets | None]:
    """Return *text* without what is dropped, and with line feeds alone for line ends."""
    pieces: list[str] = []
    offsets, length, source = _Offsets(), 0, 0
    for match in _REWRITTEN.finditer(text):
        kept, new = text[source : match.start()], "\n" if match[0][0] == "\r" else ""
        offsets.move(length, source)
        pieces += (kept, new)
        length += len(kept)
        offsets.move(length, match.start())
        length += len(new)
        source = match.end()
    if not pieces:
        return text, None
    offsets.move(length, source)
    pieces.append(text[source:])
    offsets.close(length + len(text) - source, len(text))
    return "".join(pieces), offsets


def _composed(text: str) -> tuple[str, _Offsets | None]:
    """Return *text* in NFC, line by line: nothing composes with a line's end."""
    if unicodedata.is_normalized("NFC", text):
        return text, None
    pieces: list[str] = []
    offsets, length, source = _Offsets(), 0, 0
    for line in text.splitlines(keepends=True):
        for segment in _segments_of(line):
            composed = _nfc(segment)
            offsets.move(length, source)
            pieces.append(composed)
            length += len(composed)
            source += len(segment)
    offsets.close(length, source)
    return "".join(pieces), offsets


def _segments_of(line: str) -> Iterator[str]:
    """Yield a line in stretches that compose by themselves, each as long as it stays as it is."""
    if unicodedata.is_normalized("NFC", line):
        yield line
        return
    runs, segments = _patterns()
    for run in runs.findall(line):
        if unicodedata.is_normalized("NFC", run):
            yield run
        else:
            yield from segments.findall(run)


def _nfc(segment: str) -> str:
    if len(segment) > _SEGMENT_CHARACTERS_MAX and not unicodedata.is_normalized("NFC", segment):
        apart = [part for each in segment for part in unicodedata.normalize("NFD", each)]
        # Canonical order: marks by their class, in their order within one; what has none stays where it is.
        runs = groupby(apart, key=lambda each: unicodedata.combining(each) > 0)
        segment = "".join(
            each for marks, run in runs for each in (sorted(run, key=unicodedata.combining) if marks else run)
        )
    return unicodedata.normalize("NFC", segment)


@cache  # only texts that are not in normal form pay for it: some 20 ms
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a run that nothing joins, or one character with what may join it; and of the latter."""
    marks = "".join(
        character
        for character in map(chr, range(_COMPOSED_FROM, _MARKS_TO))
        if unicodedata.category(character)[0] == "M"
    )
    joining = f"{re.escape(marks)}{_HANGUL_VOWELS_AND_TAILS}{_KIRAT_RAI_VOWELS}"
    segment = f"(?s:.)[{joining}]*"
    # What is below the first mark comes first: the class of all marks is slow to search.
    plain = r"[\x00-\u02ff]+(?![\u0300-\U0010ffff])"
    return re.compile(f"{plain}|(?:[^{joining}](?![{joining}]))+|{segment}"), re.compile(segment)

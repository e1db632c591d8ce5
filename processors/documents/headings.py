"""Headings of Markdown (`#` lines, as CommonMark has them), outside code blocks."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PATH_CHARACTERS_MAX = 512
SEPARATOR = " > "

_LINE = re.compile(
    r"^ {0,3}(?:(?P<level>#{1,6})(?:[ \t]+(?P<title>[^\n]*))?|(?P<fence>`{3,}|~{3,})(?P<rest>[^\n]*))$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading: where its line begins and ends, and the titles above it with its own."""

    start: int
    end: int
    path: str


def headings_of(text: str) -> Sequence[Heading]:
    """Return the headings of a Markdown text in their order."""
    found: list[Heading] = []
    above: list[tuple[int, str]] = []
    for match in _outside_fences(text):
        level, title = len(match["level"]), _title(match["title"] or "")
        while above and above[-1][0] >= level:
            above.pop()
        if title:
            above.append((level, title))
        path = SEPARATOR.join(each for _, each in above)[:PATH_CHARACTERS_MAX].rstrip()
        found.append(Heading(start=match.start(), end=match.end(), path=path))
    return found


def path_at(headings: Sequence[Heading], at: int) -> str:
    """Return the path of the last heading that begins at or before *at*; empty where there is none."""
    found = bisect_right(headings, at, key=lambda each: each.start)
    return headings[found - 1].path if found else ""


def _outside_fences(text: str) -> Iterator[re.Match[str]]:
    fence = ""
    for match in _LINE.finditer(text):
        marks = match["fence"]
        if marks is None:
            if not fence:
                yield match
        elif not fence:
            # Backticks behind the opening ones make it a line of text with code in it.
            fence = "" if marks[0] == "`" and "`" in match["rest"] else marks
        elif marks[0] == fence[0] and len(marks) >= len(fence) and not match["rest"].strip():
            fence = ""


def _title(text: str) -> str:
    stripped = text.strip()
    bare = stripped.rstrip("#")
    # Closing marks count only behind a space: `C#` is a name.
    return bare.rstrip() if not bare or bare[-1] in " \t" else stripped

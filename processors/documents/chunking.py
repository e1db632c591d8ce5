"""
Cutting a text into chunks that an embedder takes whole.

One pass over the tokens of the whole text, which are asked for once. A chunk ends at the last border that fits: before
a heading, between paragraphs, sentences, words, else between two characters that people see. Chunks are spans of code
points; the same text and rules give the same spans everywhere.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from processors.documents.graphemes import is_border, last_border, next_border
from processors.documents.headings import Heading, headings_of, path_at

VERSION = 1  # of the rules below: raise it when the same text would be cut elsewhere
TOKENS_MAX = 250  # an embedder takes 256 with the special ones
CHARACTERS_MAX = 16_384
# A word that the tokenizer holds for one unknown token may become one a character where it is cut in two; beyond this
# length WordPiece calls the piece unknown as well.
PIECE_TOKENS_MAX = 100
OVERLAP_SHARE = 4  # an overlap has at most this part of a chunk's characters

Tokens = Callable[[str], Sequence[tuple[int, int]]]
"""The spans of a text's tokens in code points, in their order and without special ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRules:
    """Bounds of a chunk, and how much of the one before it repeats."""

    tokens_max: int = 200
    overlap_tokens: int = 30
    characters_max: int = 1600

    def __post_init__(self) -> None:
        if not 1 <= self.tokens_max <= TOKENS_MAX:
            raise ValueError(f"tokens_max is {self.tokens_max}; it must be 1 to {TOKENS_MAX}")
        if not 0 <= self.overlap_tokens <= self.tokens_max // 2:
            raise ValueError(f"overlap_tokens is {self.overlap_tokens}; it must be 0 to half of tokens_max")
        if not 1 <= self.characters_max <= CHARACTERS_MAX:
            raise ValueError(f"characters_max is {self.characters_max}; it must be 1 to {CHARACTERS_MAX}")

    @property
    def id(self) -> str:
        """Return what a fingerprint carries: equal ids cut equal texts equally."""
        return f"chunks-{VERSION}:{self.tokens_max}:{self.overlap_tokens}:{self.characters_max}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a text in code points, and the path of the headings above it; empty where there are none."""

    start: int
    end: int
    heading: str


def chunks_of(text: str, *, tokens: Tokens, rules: ChunkRules, is_markdown: bool) -> Sequence[Chunk]:
    """
    Return the chunks of a text in normal form; together they cover all of it but space.

    Each has at most the tokens and characters of *rules*. An overlap widens a chunk backwards only, and never over a
    heading. A character that people see is cut only where it is longer than a chunk itself.
    """
    headings = headings_of(text) if is_markdown else ()
    borders = _Borders.of(text, headings)
    counted = _Tokens(tokens(text))
    chunks: list[Chunk] = []
    core = borders.first
    while core < borders.last:
        start = core
        if chunks and rules.overlap_tokens and not borders.is_section(core):
            start = _widened(text, core, after=chunks[-1].start, tokens=counted, borders=borders, rules=rules)
        end, following = _cut(text, start, core, tokens=counted, borders=borders, rules=rules)
        if start < core and (end <= core or counted.count(start, end) > rules.tokens_max):
            # The overlap ends in a piece of a word that takes the room of what is new.
            start = core
            end, following = _cut(text, core, core, tokens=counted, borders=borders, rules=rules)
        if not text[start:end].isspace():  # a space whose mark did not fit
            chunks.append(Chunk(start, end, path_at(headings, core)))
        core = _behind_space(text, following)
    return chunks


def _cut(
    text: str, start: int, core: int, *, tokens: "_Tokens", borders: "_Borders", rules: ChunkRules
) -> tuple[int, int]:
    """Return the end of the chunk that begins at *start* with new text from *core* on, and where the next one is."""
    limit = min(start + rules.characters_max, tokens.reach(start, rules.tokens_max), len(text))
    if limit >= borders.last:
        limit = len(text)
    for end, following in borders.before(limit, start=start, core=core):
        if tokens.count(start, end) <= rules.tokens_max:
            return end, following
    end = last_border(text, tokens.reach_within(start, core, limit, rules.tokens_max), since=core)
    # One step back may be into a token that was whole, and so counts for more: rarely more than once.
    while tokens.count(start, end) > rules.tokens_max:
        shorter = last_border(text, tokens.reach_within(start, core, end, rules.tokens_max), since=core)
        if shorter >= end:
            break
        end = shorter
    return end, borders.beyond(end)


def _widened(text: str, core: int, *, after: int, tokens: "_Tokens", borders: "_Borders", rules: ChunkRules) -> int:
    """Return where the chunk of *core* begins with its overlap, which is after the start of the one before."""
    least = max(
        tokens.back(core, rules.overlap_tokens),
        core - rules.characters_max // OVERLAP_SHARE,
        after + 1,
    )
    if least >= core:
        return core
    if (found := borders.from_(least, core)) is not None:
        return found
    return next_border(text, least, since=after, until=core)


def _behind_space(text: str, at: int) -> int:
    """Return where the text goes on behind the space that begins at *at*, if it does."""
    behind = _SPACE.match(text, at)
    assert behind is not None  # the pattern matches nothing as well
    end = behind.end()
    return end if end == at or is_border(text, end) else end - 1  # the last one may bear a mark


class _Tokens:
    """The tokens of a text, to be counted between any two offsets."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        # Tokens of one character's bytes share its span; both sides rise all the same.
        self._starts = list(accumulate((start for start, _ in spans), max))
        self._ends = list(accumulate((end for _, end in spans), max))

    def count(self, start: int, end: int) -> int:
        """Return the most tokens that the text from *start* to *end* can have by itself."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if first >= last:
            return 0
        if last - first == 1:
            return self._weight(first, start, end)
        return self._weight(first, start, end) + last - first - 2 + self._weight(last - 1, start, end)

    def _weight(self, token: int, start: int, end: int) -> int:
        own_start, own_end = self._starts[token], self._ends[token]
        if start <= own_start and own_end <= end:
            return 1
        return max(1, min(min(own_end, end) - max(own_start, start), PIECE_TOKENS_MAX))

    def reach(self, start: int, tokens_max: int) -> int:
        """Return the offset up to which *tokens_max* tokens lead from *start* if none but the first is cut."""
        first = bisect_right(self._ends, start)
        if first >= len(self._starts):
            return 1 << 62
        left = tokens_max - self._weight(first, start, self._ends[first])
        if left < 0:
            return start + tokens_max
        beyond = first + 1 + left
        return self._starts[beyond] if beyond < len(self._starts) else 1 << 62

    def reach_within(self, start: int, core: int, limit: int, tokens_max: int) -> int:
        """Return the last offset up to *limit*, after *core*, up to which a text that is cut anywhere fits."""
        if self.count(start, limit) <= tokens_max:
            return limit
        token = bisect_left(self._starts, limit) - 1  # the one that is cut at the limit
        begins = self._starts[token]
        if begins > core and self.count(start, begins) <= tokens_max:
            left = tokens_max - self.count(start, begins)
            return begins + min(left, limit - begins)
        return max(core + 1, min(limit, core + tokens_max - self.count(start, core)))

    def back(self, core: int, tokens_max: int) -> int:
        """Return the first offset from which up to *core* there are at most *tokens_max* tokens."""
        last = bisect_left(self._starts, core) - 1
        if last < 0:
            return core
        if self._ends[last] > core:  # one that is cut at the core
            inside = core - self._starts[last]
            if inside >= tokens_max:
                return core - tokens_max
            tokens_max -= inside
            last -= 1
        wanted = last + 1 - tokens_max
        return 0 if wanted <= 0 else max(self._starts[wanted], self._ends[wanted - 1])


_SPACE = re.compile(r"\s*")
# Space, which separates by what is before it and by its line ends; and ends of sentences that need no space.
_SEPARATOR = re.compile(r"""\s+|[。！？｡]["'」』”’）]*""")  # noqa: RUF001  of Chinese and Japanese
_SENTENCE_END = re.compile(r"""[.!?…。！？｡]["'”’»)\]」』）*_]{0,4}$""")  # noqa: RUF001
_TAIL_CHARACTERS = 5  # of a sentence: its mark, and what may close behind it
_FEWEST_SHARE = {"section": 4, "paragraph": 2, "sentence": 2}  # a chunk that ends there has this part of the room


class _Borders:
    """The borders of a text: where what is before them ends, and where what is behind them begins."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first  # where the text begins, and ends, without space around it
        self.last = last
        self._sections: tuple[list[int], list[int]] = ([], [])
        self._paragraphs: tuple[list[int], list[int]] = ([], [])
        self._sentences: tuple[list[int], list[int]] = ([], [])
        self._words: tuple[list[int], list[int]] = ([], [])
        self._section_starts: frozenset[int] = frozenset()

    @classmethod
    def of(cls, text: str, headings: Sequence[Heading]) -> "_Borders":
        first, last = _behind_space(text, 0), len(text.rstrip())
        found = cls(first, last)
        starts, ends = {each.start for each in headings}, {each.end for each in headings}
        found._section_starts = frozenset(starts)
        for match in _SEPARATOR.finditer(text, first, last):
            end, following = match.span()
            is_space = text[end].isspace()
            if is_space:
                following = _line_start(text, end, following, starts)
                if not is_border(text, following):  # a mark that stands on the last space
                    following -= 1
            else:
                end = following
            if not is_border(text, end) or following <= first:
                continue
            _add(found._words, end, following)
            if end in ends:
                continue  # a heading is not left behind by what it stands above
            if following in starts:
                _add(found._sections, end, following)
            if following in starts or (is_space and text.count("\n", end, following) > 1):
                _add(found._paragraphs, end, following)
            if not is_space or _SENTENCE_END.search(text[max(first, end - _TAIL_CHARACTERS) : end]):
                _add(found._sentences, end, following)
        return found

    def is_section(self, at: int) -> bool:
        """Return True if a heading begins at *at*."""
        return at in self._section_starts

    def before(self, limit: int, *, start: int, core: int) -> list[tuple[int, int]]:
        """Return the ends that may be chosen, with what follows each, the best first."""
        if limit >= self.last:
            return [(self.last, limit)]
        found: list[tuple[int, int]] = []
        for name, kind in (
            ("section", self._sections),
            ("paragraph", self._paragraphs),
            ("sentence", self._sentences),
            ("word", self._words),
        ):
            ends, followings = kind
            at = bisect_right(ends, limit) - 1
            least = start + (limit - start) // _FEWEST_SHARE[name] if name in _FEWEST_SHARE else core
            if at >= 0 and ends[at] > core and ends[at] >= least:
                found.append((ends[at], followings[at]))
        return found

    def from_(self, least: int, core: int) -> int | None:
        """Return where the first sentence, else the first word, begins from *least* on, before *core*."""
        for _, followings in (self._sentences, self._words):
            at = bisect_left(followings, least)
            if at < len(followings) and followings[at] < core:
                return followings[at]
        return None

    def beyond(self, end: int) -> int:
        """Return where the text goes on behind *end*, which is where space begins or within a word."""
        ends, followings = self._words
        at = bisect_left(ends, end)
        return followings[at] if at < len(ends) and ends[at] == end else end


def _add(kind: tuple[list[int], list[int]], end: int, following: int) -> None:
    kind[0].append(end)
    kind[1].append(following)


def _line_start(text: str, end: int, following: int, starts: set[int]) -> int:
    """Return where a heading's line begins if it is indented, and else *following*."""
    line = text.rfind("\n", end, following) + 1
    return line if line in starts else following

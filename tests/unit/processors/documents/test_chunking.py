"""Chunks of texts: whole, bounded, and cut where people would cut."""

import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processors.documents.chunking import PIECE_TOKENS_MAX, Chunk, ChunkRules, chunks_of
from processors.documents.graphemes import is_border
from schemas.documents.texts import normalised

MIB = 1024 * 1024
SMALL = ChunkRules(tokens_max=8, overlap_tokens=3, characters_max=40)
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
FLAG = "\U0001f1e9\U0001f1ea"
PIECES = [
    *("word ", "another", "a", ". ", "! ", "\n", "\n\n", "  \n \n", "# Title\n", "## Part\n\n", "```\n", "   # In\n"),
    *(
        "e\u0301",
        FAMILY,
        FLAG,
        FLAG + FLAG,
        "\u0915\u094d\u0937",
        "\u1112\u1161\u11ab",
        "\u4f60\u597d\u3002",
        "\U0001f44d\U0001f3fd",
    ),
    *(" \u0301", "x" * 30, "\t", "\u3000", "C#", "\u200d", "\u0e01\u0e33"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=60).map(
    lambda pieces: normalised("".join(pieces)).text
)
RULES = st.builds(
    lambda tokens, overlap, characters: ChunkRules(
        tokens_max=tokens, overlap_tokens=min(overlap, tokens // 2), characters_max=characters
    ),
    st.integers(1, 20),
    st.integers(0, 10),
    st.integers(1, 60),
)


def words(text: str) -> Sequence[tuple[int, int]]:
    """Return the tokens as WordPiece has them: no token holds space, a run without any may be one."""
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def cut(text: str, rules: ChunkRules = SMALL, *, is_markdown: bool = False) -> list[str]:
    return [text[each.start : each.end] for each in chunks_of(text, tokens=words, rules=rules, is_markdown=is_markdown)]


def tokens_of(text: str, chunk: Chunk) -> int:
    """Return the most tokens that a chunk can have; a piece of a token may be one a character."""
    return sum(
        1 if chunk.start <= start and end <= chunk.end
        else min(min(end, chunk.end) - max(start, chunk.start), PIECE_TOKENS_MAX)
        for start, end in words(text)
        if start < chunk.end and end > chunk.start
    )  # fmt: skip


@given(TEXTS, RULES, st.booleans())
def test_chunks_cover_all_but_space(text: str, rules: ChunkRules, is_markdown: bool) -> None:
    covered = set[int]()
    for each in chunks_of(text, tokens=words, rules=rules, is_markdown=is_markdown):
        assert each.start < each.end
        covered.update(range(each.start, each.end))
    assert "".join(text[at] for at in range(len(text)) if at not in covered).strip() == ""


@given(TEXTS, RULES, st.booleans())
def test_chunks_keep_their_bounds(text: str, rules: ChunkRules, is_markdown: bool) -> None:
    for each in chunks_of(text, tokens=words, rules=rules, is_markdown=is_markdown):
        assert each.end - each.start <= rules.characters_max
        assert tokens_of(text, each) <= rules.tokens_max


@given(TEXTS, RULES, st.booleans())
def test_chunks_are_in_order_and_overlap_backwards_only(text: str, rules: ChunkRules, is_markdown: bool) -> None:
    found = chunks_of(text, tokens=words, rules=rules, is_markdown=is_markdown)
    for one, two in pairwise(found):
        assert one.start < two.start
        assert one.end < two.end
    for each in found:
        assert not text[each.start : each.end].isspace()


@given(TEXTS, st.booleans())
@example(FAMILY * 40, False)
@example(FLAG * 40, False)
@example("a\u200d\n", False)
@example(" \u0301", False)
def test_no_chunk_cuts_a_character_that_people_see(text: str, is_markdown: bool) -> None:
    rules = ChunkRules(tokens_max=60, overlap_tokens=20, characters_max=70)
    for each in chunks_of(text, tokens=words, rules=rules, is_markdown=is_markdown):
        assert is_border(text, each.start)
        assert is_border(text, each.end)


@given(TEXTS, RULES)
def test_the_same_text_is_cut_the_same_way(text: str, rules: ChunkRules) -> None:
    first = chunks_of(text, tokens=words, rules=rules, is_markdown=True)
    assert first == chunks_of(text, tokens=words, rules=rules, is_markdown=True)


def test_another_process_cuts_the_same_way() -> None:
    text = "One sentence. Another one!\n\nA paragraph \u4f60\u597d\u3002 " * 30
    program = (
        "import re, sys\n"
        "from processors.documents.chunking import ChunkRules, chunks_of\n"
        "words = lambda text: [each.span() for each in re.finditer(r'\\w+|[^\\w\\s]', text)]\n"
        "text = sys.stdin.buffer.read().decode()\n"
        "print([(each.start, each.end) for each in"
        " chunks_of(text, tokens=words, rules=ChunkRules(), is_markdown=True)])\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], input=text.encode(), capture_output=True, check=True)
    here = [(each.start, each.end) for each in chunks_of(text, tokens=words, rules=ChunkRules(), is_markdown=True)]
    assert ran.stdout.decode().strip() == str(here)


def test_tokens_are_asked_for_once() -> None:
    asked: list[str] = []

    def tokens(text: str) -> Sequence[tuple[int, int]]:
        asked.append(text)
        return words(text)

    text = "many words " * 200
    chunks_of(text, tokens=tokens, rules=SMALL, is_markdown=False)
    assert asked == [text]


def test_a_paragraph_is_preferred_to_a_sentence_and_a_sentence_to_a_word() -> None:
    rules = ChunkRules(tokens_max=10, overlap_tokens=0, characters_max=200)
    assert cut("One two three. Four five.\n\nSix seven. Eight nine ten", rules) == [
        "One two three. Four five.",
        "Six seven. Eight nine ten",
    ]
    assert cut("One two three four five. Six seven eight nine ten eleven", rules)[0] == "One two three four five."
    assert cut("one two three four five six seven eight nine ten eleven", rules)[0].endswith("ten")


def test_an_overlap_repeats_the_end_of_the_chunk_before() -> None:
    rules = ChunkRules(tokens_max=8, overlap_tokens=3, characters_max=100)
    first, second, *_ = cut("one two three four five six seven eight nine ten eleven twelve", rules)
    assert first.endswith("six seven eight")
    assert second.startswith("six seven eight nine")


def test_a_chunk_has_the_path_of_its_headings() -> None:
    text = "# Book\n\nIntro words here now.\n\n## One\n\nText of one, long enough.\n\n# Two\n\nThe end of it all."
    rules = ChunkRules(tokens_max=14, overlap_tokens=3, characters_max=100)
    found = chunks_of(text, tokens=words, rules=rules, is_markdown=True)
    assert [(each.heading, text[each.start : each.end].partition("\n")[0]) for each in found] == [
        ("Book", "# Book"),
        ("Book > One", "## One"),
        ("Two", "# Two"),
    ]


def test_a_hash_in_code_is_no_heading() -> None:
    text = "# Real\n\n```sh\n# a comment\n```\n\ntext ~~~ here\n\n~~~\n# again\n```\n~~~\n## Under\n\nC#"
    paths = {each.heading for each in chunks_of(text, tokens=words, rules=SMALL, is_markdown=True)}
    assert paths <= {"Real", "Real > Under"}
    assert "Real > Under" in paths


def test_a_plain_text_has_no_headings() -> None:
    assert {each.heading for each in chunks_of("# one\n\ntwo", tokens=words, rules=SMALL, is_markdown=False)} == {""}


@pytest.mark.parametrize("text", ["", " \n\n ", "\n" * 1000])
def test_space_has_no_chunks(text: str) -> None:
    assert cut(text) == []


def test_a_run_without_spaces_is_cut_by_characters() -> None:
    """One unknown token of 300,000 letters would be one chunk, of which an embedder sees the beginning."""
    text = "ACGT" * 75_000
    found = chunks_of(text, tokens=words, rules=ChunkRules(), is_markdown=False)
    assert all(each.end - each.start <= 1600 for each in found)
    assert len(found) > 180


@pytest.mark.parametrize(
    "text",
    [
        "x" * 2 * MIB,
        "\n" * 2 * MIB,
        "a" + "\n" * (2 * MIB) + "b",
        "word " * (2 * MIB // 5) + "\n\nend",
        "word\n" * (2 * MIB // 5),
        "# a\n" * (MIB // 2),
        FLAG * (MIB // 2),
        "e" + "\u0301" * MIB,
    ],
    ids=["letters", "newlines", "gap", "far blank line", "lines", "headings", "flags", "marks"],
)
def test_a_large_text_takes_time_in_proportion(text: str) -> None:
    rules = ChunkRules()
    began_s = process_time()
    chunks_of(text, tokens=lambda _text: words(text), rules=rules, is_markdown=True)
    assert process_time() - began_s < 30.0  # squares of these lengths would take hours


@pytest.mark.parametrize(
    "wrong", [{"tokens_max": 251}, {"tokens_max": 0}, {"overlap_tokens": 101}, {"characters_max": 0}]
)
def test_rules_are_within_what_an_embedder_takes(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="it must be"):
        ChunkRules(**wrong)


def test_the_id_of_rules_changes_with_each_of_them() -> None:
    ids = {
        ChunkRules().id,
        ChunkRules(tokens_max=100).id,
        ChunkRules(overlap_tokens=0).id,
        ChunkRules(characters_max=9).id,
    }
    assert len(ids) == 4
    assert ChunkRules().id == ChunkRules().id

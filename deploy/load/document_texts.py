"""Texts for measurements: made up, of a given length, and no two alike, so that no vector comes out of a cache."""

from random import Random

VOCABULARY = """
    anchor barge beacon berth bollard breeze buoy cable captain cargo channel chart coast compass crane crew
    current dawn deck depth dock dredge ebb ferry flag fleet flood fog freight gale gauge grain
    gull harbour hatch haul hull ice island jetty keel lamp lantern ledger lock log mast mole
    moon mooring morning north pier pilot plank port quay rain reef rigging rock rope rudder sail
    salt sand schooner season shallow shore signal skipper sluice sound spring squall steamer stern storm strait
    summer tide timber toll tow tug vessel warehouse watch water wave west wharf winch wind winter
    wreck yard
"""
SENTENCE_WORDS = 12
PARAGRAPH_SENTENCES = 6


def made_text(number: int, *, words: int) -> str:
    """Return text *number*: the same each time, about *words* long, in sentences and paragraphs."""
    generator = Random(number)  # noqa: S311  # it makes texts, no secrets
    drawn = generator.choices(VOCABULARY.split(), k=words)
    sentences = [
        f"{' '.join(drawn[start : start + SENTENCE_WORDS]).capitalize()} {number}."
        for start in range(0, len(drawn), SENTENCE_WORDS)
    ]
    paragraphs = (
        " ".join(sentences[start : start + PARAGRAPH_SENTENCES])
        for start in range(0, len(sentences), PARAGRAPH_SENTENCES)
    )
    return "\n\n".join(paragraphs)

"""Secrets that are none: placeholders of an example, and what is too short or too uniform to be random."""

import re

CHARACTERS_MIN = 12
DIFFERENT_MIN = 5  # of 12 random hex digits fewer than five differ once in a million

# None is likely within a random text: the shortest has eight letters.
_PLACEHOLDER = re.compile(
    r"replace[-_ ]?(me|this|with)|change[-_ ]?(me|this|it)\b|place[-_ ]?holder|your[-_ ]\w*secret", re.IGNORECASE
)
_IN_BRACKETS = re.compile(r"[<{\[].*[>}\]]\Z", re.DOTALL)


def secret_fault(secret: str) -> str | None:
    """Return what is wrong with *secret*, without quoting it; None if nothing is."""
    if found := _PLACEHOLDER.search(secret):
        return f"is a placeholder ({found[0]})"
    if _IN_BRACKETS.match(secret):
        return "is a placeholder (it stands in brackets)"
    if len(secret) < CHARACTERS_MIN:
        return f"has {len(secret)} characters; at least {CHARACTERS_MIN} are required"
    if len(set(secret)) < DIFFERENT_MIN:
        return f"has {len(set(secret))} different characters; at least {DIFFERENT_MIN} are required"
    return None

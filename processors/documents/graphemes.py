"""
Borders between the characters that people see.

A careful reading of UAX #29 without its tables: where it is unsure, there is no border. Used where a text has neither
space nor punctuation to be cut at.
"""

import unicodedata

_FIRST_JOINING = "\u0300"  # what is below never joins what is before it, but for a line feed
_ZWNJ, _ZWJ = "\u200c", "\u200d"
_VIRAMA = 9  # the canonical class of marks that bind the next letter
_HALFWIDTH_VOICED = "\uff9e\uff9f"
_THAI_AND_LAO_AM = "\u0e33\u0eb3"
# Characters that belong to what follows them.
_PREPENDED = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd"


def is_border(text: str, at: int, *, since: int = 0) -> bool:
    """Return True if *text* may be cut before *at*; *since* is an earlier border, from which flags are counted."""
    if not 0 < at < len(text):
        return True
    before, after = text[at - 1], text[at]
    if before < _FIRST_JOINING and after < _FIRST_JOINING:
        return (before, after) != ("\r", "\n")
    if after.isspace():  # nothing is seen there that could be cut
        return True
    if (
        _joins_what_is_before(after)
        or before == _ZWJ
        or before in _PREPENDED
        or (unicodedata.combining(before) == _VIRAMA and after.isalpha())
        or (_is_hangul_head(before) and (_is_hangul_head(after) or "\uac00" <= after <= "\ud7a3"))
    ):
        return False
    if _is_flag_half(before) and _is_flag_half(after):
        first = at - 1
        while first > since and _is_flag_half(text[first - 1]):
            first -= 1
        return (at - first) % 2 == 0
    return True


def last_border(text: str, at: int, *, since: int) -> int:
    """Return the last border at or before *at*, but after *since*, itself one; *at*, if one character is that long."""
    for found in range(at, since, -1):
        if is_border(text, found, since=since):
            return found
    return at


def next_border(text: str, at: int, *, since: int, until: int) -> int:
    """Return the first border at or after *at*, counted from *since*, an earlier one; *until* if none is before it."""
    return next((found for found in range(at, until) if is_border(text, found, since=since)), until)


def _joins_what_is_before(character: str) -> bool:
    if character < _FIRST_JOINING:
        return False
    return (
        unicodedata.category(character)[0] == "M"
        or character in (_ZWJ, _ZWNJ)
        or character in _HALFWIDTH_VOICED
        or character in _THAI_AND_LAO_AM
        or "\u1160" <= character <= "\u11ff"  # Hangul vowels and tails
        or "\ud7b0" <= character <= "\ud7fb"
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # tones of skin
        or "\U000e0020" <= character <= "\U000e007f"  # tags, of regional flags
    )


def _is_hangul_head(character: str) -> bool:
    return "\u1100" <= character <= "\u115f" or "\ua960" <= character <= "\ua97c"


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"

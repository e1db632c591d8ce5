"""
Redaction of secrets, which are recognised by their name or by their form, before anything leaves the machine.

It errs on the side of hiding: a snapshot that hides a harmless value is a nuisance, one that shows a key is a leak.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping

HIDDEN = "***"
CUT = "...(cut)"
CHARACTERS_MAX = 8 * 1024  # of one value that is shown
LOOKED_AT_MAX = 16 * 1024  # characters; beyond it nothing is shown, so nothing needs a look
RANDOM_BITS_MIN = 3.5  # a character: English prose has some 4 over all letters, but no digits among 32 without a blank

_SECRET_NAME = re.compile(
    r"secret|token|passw|passphrase|pwd|credential|auth|cookie|session|private|dsn|signature|salt|bearer|connection_?str"
    r"|(?:^|[_.-]|api|access|account|signing|encryption|shared|master|deploy|service|ssh|gpg|tls)key",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    # user:password@ of an address, up to the last @ where the password has one; or user@ before the path begins
    r"(?<=://)(?:[^/\s:@]*:\S*|[^/\s]*)(?=@)"
    # name=value of a query, a libpq string, a command line, a header, a line of source or Python's repr of a dict
    r"|(?i:(?<![a-z])(?:[\w-]{0,40}(?:secret|token|passw\w*|pwd|credentials?|signature|api[_-]?key|access[_-]?key)|sig|key))"
    r"""(?:\s{0,3}=\s{0,3}|:\s*|["']\s{0,3}:\s{0,3})["']?[^\s&;,"']+"""
    r"|\btg_[0-9a-z]+_\w+"
    r"|\b(?:sk|pk|rk)[-_][\w-]{8,}"
    r"|\bgh[opsru]_\w{16,}|\bgithub_pat_\w+|\bglpat-[\w-]+|\bxox[a-z]-[\w-]+|\bhf_\w{16,}|\bAIza[\w-]{30,}"
    r"|\b(?:npm|pypi)[-_]\w{16,}|\bwhsec_[\w+/=]{8,}|\bya29\.[\w-]+"
    r"|\b(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ANVA)[0-9A-Z]{12,}\b"
    r"|\beyJ[\w-]+\.[\w-]+\.?[\w-]*"  # a JSON web token
    r"|(?i:\b(?:bearer|basic|digest)\s+\S+)"
    r"|(?s:-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z))"
)
# Digests and keys alike: 32 or more letters and digits in a row.
_LONG = re.compile(r"(?<![\w/+.-])[A-Za-z0-9+/_-]{32,}={0,2}(?![\w/+.-])")


def is_secret_name(name: str) -> bool:
    """Return True if any value under *name* is hidden."""
    return _SECRET_NAME.search(name) is not None


def redacted(name: str, value: str) -> str:
    """Return *value* without what its name or its looks give away as secret, and cut where it is long."""
    return HIDDEN if is_secret_name(name) else without_secrets(value)


def without_secrets(value: str) -> str:
    """Return *value* without what looks like a secret, and cut where it is long."""
    # The environment may hold bytes that are no text, and Postgres keeps no NUL.
    text = value[:LOOKED_AT_MAX].encode("utf-8", "replace").decode().replace("\0", "?")
    clean = _LONG.sub(_unless_plain, _SECRET_VALUE.sub(HIDDEN, text))
    return clean if len(clean) <= CHARACTERS_MAX else clean[:CHARACTERS_MAX] + CUT


def without_secrets_within(value: object) -> object:
    """Return a JSON-like *value* with every string in it, and under a secret's name everything, treated as above."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {
            without_secrets(str(name)): HIDDEN if is_secret_name(str(name)) else without_secrets_within(member)
            for name, member in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets_within(member) for member in value]
    return value


def _unless_plain(found: re.Match[str]) -> str:
    """Return a long word, hidden if it is as random as a key: of letters and digits, none of them much preferred."""
    word = found[0]
    has_both = any(each.isdigit() for each in word) and any(each.isalpha() for each in word)
    return HIDDEN if has_both and _bits_per_character(word) >= _bits_min(word) else word


def _bits_min(word: str) -> float:
    # Of sixteen digits there are at most 4 bits a character, and 32 random ones have some 3.6.
    return 3.0 if re.fullmatch(r"[0-9a-fA-F]+", word) else RANDOM_BITS_MIN + 0.5


def _bits_per_character(word: str) -> float:
    counts = Counter(word).values()
    return -sum(count / len(word) * math.log2(count / len(word)) for count in counts)

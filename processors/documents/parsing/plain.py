"""Plain text and Markdown; front matter becomes metadata."""

import re

from processors.documents.parsing.charset import Decoded, decoded
from processors.documents.parsing.parts import parsed
from processors.documents.parsing.results import Parsed, Part, labels

FRONT_MATTER_CHARACTERS_MAX = 16 * 1024

_FENCE = "---\n"
_ENTRY = re.compile(r"([A-Za-z][\w .-]*?)[ \t]*:[ \t]+(\S.*)")


def read_text(content: bytes, *, charset: str | None) -> Parsed:
    """Return a text file."""
    found = decoded(content, declared=charset)
    return parsed([Part(text=found.text)], is_markdown=False, metadata=charset_labels(found))


def read_markdown(content: bytes, *, charset: str | None) -> Parsed:
    """Return a Markdown file; of its front matter, the entries that are one plain value each."""
    found = decoded(content, declared=charset)
    entries, text = _without_front_matter(found.text.replace("\r\n", "\n"))
    metadata = charset_labels(found) | entries
    return parsed([Part(text=text, title=entries.get("title"))], is_markdown=True, metadata=metadata)


def charset_labels(found: Decoded) -> dict[str, str]:
    """Return the metadata of a text's character set."""
    return {"charset": found.charset, "charset_found_by": found.found_by}


def _without_front_matter(text: str) -> tuple[dict[str, str], str]:
    if not text.startswith(_FENCE):
        return {}, text
    end = text.find(f"\n{_FENCE}", 0, FRONT_MATTER_CHARACTERS_MAX)
    if end < 0:
        return {}, text
    entries = [match for line in text[len(_FENCE) : end].split("\n") if (match := _ENTRY.fullmatch(line.rstrip()))]
    return labels([(match[1], match[2].strip("\"'")) for match in entries]), text[end + len(_FENCE) + 1 :]

"""HTML as text: its blocks break lines, its headings become `#` lines; nothing is fetched and nothing is run."""

import re
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser, LexborNode

from processors.documents.parsing.charset import decoded
from processors.documents.parsing.parts import parsed
from processors.documents.parsing.plain import charset_labels
from processors.documents.parsing.prose import Prose
from processors.documents.parsing.results import Parsed, Part, labels

DECLARED_WITHIN_BYTES = 1024  # of the start, as browsers look

_DECLARED = re.compile(
    rb"""<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{1,40})|<meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]{1,40})""",
    re.IGNORECASE,
)
_DROPPED = frozenset({"head", "script", "style", "nav", "template", "noscript", "svg", "math", "iframe", "object"})
_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt"}
    | {"fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "legend", "li", "main", "menu", "ol"}
    | {"p", "pre", "section", "summary", "table", "ul", "option", "select", "textarea", "caption"}
)
_LINES = frozenset({"br", "tr", "li", "dt", "dd", "option"})
_CELLS = frozenset({"td", "th"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_TEXT = "-text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page as text, with its title."""

    text: str
    title: str | None
    language: str | None


def read_html(content: bytes, *, charset: str | None) -> Parsed:
    """Return an HTML file."""
    found = decoded(content, declared=charset or declared_charset(content))
    page = page_of(found.text)
    metadata = charset_labels(found) | labels([("title", page.title), ("language", page.language)])
    return parsed([Part(text=page.text, title=page.title)], is_markdown=True, metadata=metadata)


def declared_charset(content: bytes) -> str | None:
    """Return the character set that a page declares for itself."""
    match = _DECLARED.search(content[:DECLARED_WITHIN_BYTES])
    return None if match is None else (match[1] or match[2]).decode("ascii", errors="ignore")


def page_of(source: str) -> Page:
    """Return a page as text."""
    tree = LexborHTMLParser(source)
    title = tree.css_first("title")
    language = tree.root.attributes.get("lang") if tree.root is not None else None
    prose = Prose()
    if tree.body is not None:
        _walk(tree.body, prose)
    return Page(
        text=prose.text(),
        title=title.text().strip() or None if title is not None else None,
        language=language,
    )


def _walk(top: LexborNode, prose: Prose) -> None:
    """Go through the tree by its links, not by calls: pages nest as deep as they like."""
    node, preformatted = top, 0
    while True:
        tag = node.tag or ""
        below = None
        if tag == _TEXT:
            prose.add(node.text(deep=False), is_preformatted=preformatted > 0)
        elif tag not in _DROPPED:
            _begin(tag, prose)
            preformatted += tag == "pre"
            below = node.first_child
            if below is None:
                _end(tag, prose)
                preformatted -= tag == "pre"
        if below is not None:
            node = below
            continue
        while node.next is None:
            parent = node.parent
            if node.mem_id == top.mem_id or parent is None:
                return
            node = parent
            _end(node.tag or "", prose)
            preformatted -= node.tag == "pre"
            if node.mem_id == top.mem_id:
                return
        node = node.next


def _begin(tag: str, prose: Prose) -> None:
    if tag in _HEADINGS:
        prose.begin_heading(_HEADINGS[tag])
    elif tag in _LINES:
        prose.end_line()
        if tag == "li":
            prose.add("- ")
    elif tag in _BLOCKS:
        prose.end_block()


def _end(tag: str, prose: Prose) -> None:
    if tag in _CELLS:
        prose.add(" | ")
    elif tag in _LINES:
        prose.end_line()
    elif tag in _BLOCKS or tag in _HEADINGS:
        prose.end_block()

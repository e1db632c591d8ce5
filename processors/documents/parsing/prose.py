"""Text that is put together of blocks and runs, as Markdown with `#` lines."""

import re

from processors.documents.parsing.results import TEXT_BYTES_MAX, Reason, UnreadableUpload

HEADING_LEVEL_MAX = 6

_SPACE = re.compile(r"[ \t\n\r\f\v]+")


class Prose:
    """A text as it grows: blocks with a blank line between them, lines within them."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._characters = 0
        self._rows = 0
        self._is_preformatted = False  # the line

    def add(self, text: str, *, is_preformatted: bool = False) -> None:
        """Add a run to the line; space in it counts as one blank unless it is preformatted."""
        self._characters += len(text)
        if self._characters > TEXT_BYTES_MAX:
            raise UnreadableUpload(Reason.TOO_MUCH_TEXT, f"more than {TEXT_BYTES_MAX} bytes of text")
        if not is_preformatted:
            self._line.append(_SPACE.sub(" ", text))
            return
        first, *others = text.split("\n")
        self._line.append(first)
        self._is_preformatted = True
        for line in others:
            self._lines.append("".join(self._line).rstrip(" "))
            self._line[:] = [line]

    def end_line(self) -> None:
        """Begin a new line."""
        line = "".join(self._line)
        if not self._is_preformatted:
            line = _SPACE.sub(" ", line).strip(" ")
        if line.strip():
            self._lines.append(line.rstrip(" "))
        self._line.clear()
        self._is_preformatted = False

    def end_block(self) -> None:
        """Begin a new block."""
        self.end_line()
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def end_paragraph(self) -> None:
        """End a block; within a row of a table, only a word."""
        if self._rows:
            self.add(" ")
        else:
            self.end_block()

    def begin_row(self) -> None:
        """Begin a line of a table, which holds whatever comes until its end."""
        if not self._rows:
            self.end_line()
        self._rows += 1

    def end_row(self) -> None:
        """End a line of a table."""
        self._rows -= 1
        if not self._rows:
            self.end_line()

    def begin_heading(self, level: int) -> None:
        """Begin a block that is a heading; there are none in tables."""
        if self._rows:
            return
        self.end_block()
        self._line.append("#" * min(max(level, 1), HEADING_LEVEL_MAX) + " ")

    def text(self) -> str:
        """Return all of it."""
        self.end_line()
        return "\n".join(self._lines).strip("\n")

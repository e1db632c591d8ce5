"""
Line charts as SVG, drawn by hand: no browser and no library.

Both axes begin at zero, every point is drawn, and nothing is smoothed or left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
TICKS = 5
POINTS_MARKED_MAX = 60  # of more, the line alone is drawn
# Told apart by those who do not see red and green, too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line: points in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart with its lines."""

    title: str
    x: str
    y: str
    series: Sequence[Series]


def document(charts: Sequence[Chart], *, caption: str) -> str:
    """Return an SVG document with *charts* below each other, and what holds for all of them."""
    height = HEIGHT * len(charts) + 30
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for place, chart in enumerate(charts):
        parts += [f'<g transform="translate(0 {place * HEIGHT})">', *_drawn(chart), "</g>"]
    parts += [_text(10, height - 10, caption, size=11), "</svg>"]
    return "\n".join(parts) + "\n"


def ticks(largest: float) -> list[float]:
    """Return round figures from 0 to one that is not below *largest*, about `TICKS` steps."""
    if largest <= 0:
        return [0.0, 1.0]
    rough = largest / TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    return [step * place for place in range(math.ceil(largest / step - 1e-9) + 1)]


def _drawn(chart: Chart) -> list[str]:
    points = [point for series in chart.series for point in series.points]
    across, up = ticks(max((x for x, _ in points), default=0)), ticks(max((y for _, y in points), default=0))
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + inner_width * x / across[-1], TOP + inner_height * (1 - y / up[-1])

    bottom = TOP + inner_height
    parts = [_text(LEFT, TOP - 16, chart.title, size=14)]
    for y in up:
        _, at = place(0, y)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{LEFT + inner_width}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, at + 4, _figure(y), anchor="end"))
    for x in across:
        at, _ = place(x, 0)
        parts.append(f'<line x1="{at:.1f}" y1="{bottom}" x2="{at:.1f}" y2="{bottom + 5}" stroke="#555"/>')
        parts.append(_text(at, bottom + 19, _figure(x), anchor="middle"))
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{LEFT + inner_width}" fill="none" stroke="#555"/>')
    parts.append(_text(LEFT + inner_width / 2, bottom + 38, chart.x, anchor="middle"))
    parts.append(_text(16, TOP + inner_height / 2, chart.y, anchor="middle", turned=True))
    for number, series in enumerate(chart.series):
        colour = COLOURS[number % len(COLOURS)]
        placed = [place(x, y) for x, y in series.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(placed) <= POINTS_MARKED_MAX:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        at = TOP + 8 + 18 * number
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{at - 6}" width="12" height="4" fill="{colour}"/>')
        parts.append(_text(WIDTH - RIGHT + 30, at, series.name))
    return parts


def _figure(value: float) -> str:
    return f"{value:g}"


def _text(
    x: float, y: float, text: str, *, size: int | None = None, anchor: str | None = None, turned: bool = False
) -> str:
    more = "" if size is None else f' font-size="{size}"'
    more += "" if anchor is None else f' text-anchor="{anchor}"'
    more += f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'

"""Charts: every point is where its figures say, on axes from zero."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.load.chart import Chart, Series, document, ticks

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*series: Series) -> ET.Element:
    return ET.fromstring(document([Chart(title="a < b & c", x="x", y="y", series=series)], caption="all"))


def test_a_chart_is_well_formed_and_carries_its_words() -> None:
    texts = [each.text for each in drawn(Series(name="p50", points=[(1, 2)])).iter(f"{SVG}text")]
    assert {"a < b & c", "x", "y", "p50", "all", "0"} <= set(texts)


def test_every_point_is_drawn_in_proportion_from_zero() -> None:
    root = drawn(Series(name="s", points=[(0, 0), (50, 5), (100, 10)]))
    points = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in root.iter(f"{SVG}circle")]
    (left, bottom), middle, (right, top) = points
    assert middle == ((left + right) / 2, (bottom + top) / 2)
    assert (left, bottom) == (70.0, 250.0)  # where the axes meet


def test_a_long_series_has_every_point_in_its_line() -> None:
    root = drawn(Series(name="s", points=[(number, number % 7) for number in range(1000)]))
    [line] = root.iter(f"{SVG}polyline")
    assert len(re.findall(r"[\d.]+,[\d.]+", line.attrib["points"])) == 1000


@pytest.mark.parametrize("series", [[], [Series(name="s", points=[])], [Series(name="s", points=[(0, 0)])]])
def test_a_chart_without_figures_is_one_too(series: list[Series]) -> None:
    assert drawn(*series).tag == f"{SVG}svg"


@pytest.mark.parametrize(("largest", "found"), [(0, [0, 1]), (10, [0, 2, 4, 6, 8, 10]), (23, [0, 5, 10, 15, 20, 25])])
def test_ticks_are_round(largest: float, found: list[float]) -> None:
    assert ticks(largest) == found


@given(st.floats(1e-6, 1e9))
def test_ticks_begin_at_zero_and_reach_the_largest_figure(largest: float) -> None:
    found = ticks(largest)
    assert found[0] == 0
    assert found[-1] >= largest * (1 - 1e-6)
    assert len(found) <= 8

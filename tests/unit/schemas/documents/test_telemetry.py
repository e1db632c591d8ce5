"""Each metric of documents is set by each process that shows it: one that is only declared would be 0 for ever."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from schemas.documents import telemetry
from schemas.process.telemetry import OF_PROCESSORS, Metric

PROCESSES = Path(__file__).parents[4] / "processors" / "documents"
NAMES = {metric.name: name for name, metric in vars(telemetry).items() if isinstance(metric, Metric)}
SHOWN = [
    ("intake", telemetry.OF_INTAKE),
    ("work", telemetry.OF_EMBED),
    ("store", telemetry.OF_STORE),
]


def used_in(folder: Path) -> Iterator[str]:
    """Yield the names that the code of a process reads."""
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.Attribute):
                yield node.attr


@pytest.mark.parametrize(("process", "shown"), SHOWN)
def test_each_metric_that_a_process_shows_is_set_by_it(process: str, shown: Sequence[Metric]) -> None:
    own = {NAMES[metric.name] for metric in shown if metric not in OF_PROCESSORS}
    assert own <= {*used_in(PROCESSES / process)}


def test_each_metric_is_shown_by_a_process() -> None:
    shown = {metric.name for name, metrics in vars(telemetry).items() if name.startswith("OF_") for metric in metrics}
    assert {*NAMES} <= shown


@pytest.mark.parametrize(("process", "shown"), SHOWN)
def test_a_process_shows_each_metric_once(process: str, shown: Sequence[Metric]) -> None:
    del process
    assert len({metric.name for metric in shown}) == len(shown)


@pytest.mark.parametrize("name", sorted({metric.name for _, metrics in SHOWN for metric in metrics}))
def test_metrics_follow_the_naming_rules(name: str) -> None:
    metric = next(metric for _, metrics in SHOWN for metric in metrics if metric.name == name)
    assert metric.help
    assert name.endswith("_total") == (metric.kind.name == "COUNTER")
    assert not {"document", "job_id", "run_id", "key"} & {*metric.labels}

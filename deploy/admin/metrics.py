"""The metrics of a running process, from its management port."""

from http import HTTPStatus
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families

from deploy.admin.reach import get
from deploy.errors import NotReachable
from schemas.process.telemetry import Metric

PAGE_BYTES_MAX = 4 * 1024 * 1024


def total(management: str, metric: Metric) -> float:
    """
    Return the sum of *metric* over its labels, as the process behind the *management* URL counts it.

    Raises:
        NotReachable: the process does not answer.
    """
    families = text_string_to_metric_families(_page(management))
    return sum(sample.value for family in families for sample in family.samples if sample.name == metric.name)


def _page(management: str) -> str:
    try:
        status, page = get(management, "/metrics", bytes_max=PAGE_BYTES_MAX)
        if status == HTTPStatus.OK:
            return page.decode()
    except (OSError, HTTPException, UnicodeDecodeError) as error:
        raise NotReachable(f"{management}/metrics does not answer: {error}") from error
    raise NotReachable(f"{management}/metrics answers {status}")

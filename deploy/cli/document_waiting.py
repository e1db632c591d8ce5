"""Waiting for the end of documents' jobs."""

import time
from collections.abc import Callable, Iterable, Mapping

from deploy.admin.documents import Documents, Json, has_ended
from deploy.cli.output import progress_bar

POLL_FIRST_S = 0.1
POLL_MAX_S = 2.0
LOOKED_AT_ONCE = 16  # the oldest end first


def wait(
    documents: Documents, job_ids: Iterable[str], *, shown: bool, sleep: Callable[[float], None] = time.sleep
) -> Mapping[str, Json]:
    """Return each job by its id when all have ended; how many have is *shown* on a terminal."""
    left, ended = list(dict.fromkeys(job_ids)), dict[str, Json]()
    pause_s = POLL_FIRST_S
    with progress_bar(shown=shown) as bars:
        bar = bars.add_task("documents", total=len(left))
        while left:
            looked = [documents.job(job_id) for job_id in left[:LOOKED_AT_ONCE]]
            new = {job["job_id"]: job for job in looked if has_ended(job)}
            ended |= new
            left = [job_id for job_id in left if job_id not in new]
            bars.update(bar, completed=len(ended), description=_words(looked))
            if left and not new:
                sleep(pause_s)
            pause_s = POLL_FIRST_S if new else min(2 * pause_s, POLL_MAX_S)
    return ended


def _words(looked: Iterable[Json]) -> str:
    """Return how far the oldest job is."""
    oldest = next((job for job in looked if not has_ended(job)), None)
    if oldest is None:
        return "documents"
    embedded = oldest.get("embedded")
    return f"{oldest['phase']}" + (f" {embedded['done']} of {embedded['of']}" if embedded else "")

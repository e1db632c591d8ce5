"""A worker that is cut off in the middle of a transaction, and comes back when another has taken over."""

from contextlib import AbstractContextManager

from tests.faults.checker import check_committed_is_applied, committed, wait_for_progress
from tests.faults.database import slow_database
from tests.faults.load import Load
from tests.faults.processes import OwnProcess, for_a_while
from tests.support.stack import RunningStack, wait_until

EXIT_UNSETTLED = 70
PAST_REQUESTS_S = 40.0  # beyond the session and every request's timeout
GOES_ON_S = 120.0
GOES_ON_EVENTS = 2000


def sever_in_a_transaction(
    stack: RunningStack, load: Load, worker: OwnProcess, cut: AbstractContextManager[None]
) -> None:
    """Let *cut* befall *worker* at work: no commit goes back, events go on, and it works again or has made room."""
    worker.wait_ready()
    with slow_database(stack):
        load.wait_for()
        with cut:
            for_a_while(PAST_REQUESTS_S)
            wait_for_progress(stack)
            passed, accepted = committed(stack), load.accepted()

    def goes_on_without_a_step_back() -> bool:
        now = committed(stack)
        assert all(now[each] >= offset for each, offset in passed.items()), "a commit from before the cut was taken"
        passed.update(now)
        return load.accepted() > accepted + GOES_ON_EVENTS

    wait_until(goes_on_without_a_step_back, timeout_s=GOES_ON_S, what="events to come in beside the one cut off")
    check_committed_is_applied(stack)
    if worker.is_running():
        worker.wait_ready()
    else:
        assert worker.wait_end() == EXIT_UNSETTLED, worker.log

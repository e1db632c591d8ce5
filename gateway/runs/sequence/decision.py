"""
The decision about the next event of a run, from what is remembered and read of the run. Pure.

Memory may lag behind the log. An event that follows the remembered head is submitted at once (persistence decides in
any case), but nothing is refused, and no seq below the head is submitted, before the log itself was read.
"""

from enum import Enum, auto

from gateway.errors import HttpError, IdempotencyConflict, LogUnavailable, RunClosed, SequenceError
from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.sequence.memory import KnownEvent, Run, RunEnd, RunState, Unread


class Decision(Enum):
    """The next step for an event that is neither a duplicate nor refused."""

    SUBMIT = auto()
    READ = auto()  # the state of the run in the log, and decide again


def decide(run: Run, event: EventIdentity, state: RunState | Unread) -> Decision | KnownEvent | RunEnd | HttpError:
    """
    Return what *event* is to *run*: to be submitted, or to be looked up first, or refused, or what it meets.

    A `KnownEvent` of the same content is what it repeats. Of other content, or a `RunEnd`, it is still on its way:
    whether it stands in the event's way is known when it is acknowledged.
    """
    entry = run.find(event, state)
    if entry is not None and (entry.sha256 == event.sha256 or entry.place is None):
        return entry
    if run.in_doubt:
        return LogUnavailable("an earlier event of the run is not acknowledged yet; nothing was written")
    if state is Unread.FAILED:
        return Decision.SUBMIT
    if entry is not None and (decision := _decide_remembered(entry, event, state)) is not None:
        return decision
    if state is Unread.NOT_YET and not run.may_go_on_with(event):
        return Decision.READ
    return _decide_new(run, event)


def _decide_remembered(
    entry: KnownEvent, event: EventIdentity, state: RunState | Unread
) -> Decision | HttpError | None:
    """Decide on *event*, which acknowledged *entry* of other content blocks; None if that is no part of the run."""
    if not isinstance(state, RunState):
        # Remembered is not proven: ours may have come second, and the one before it may have this content.
        return Decision.READ
    if entry in state.entries.values() or state.removed:
        return conflict(event)
    assert entry.place is not None
    # What was read up to and is not in the state is rejected by persistence.
    return Decision.READ if entry.place.offset >= state.read_to else None


def conflict(event: EventIdentity) -> IdempotencyConflict:
    """Return the refusal of *event*, whose number or key is taken."""
    return IdempotencyConflict(f"seq {event.seq} or its idempotency key is in the log with other content")


def _decide_new(run: Run, event: EventIdentity) -> Decision | RunEnd | HttpError:
    if run.closing is not None:
        return RunClosed(f"the run was finalized as {run.closing.status}") if run.closing.place else run.closing
    if event.seq > run.head + 1:
        return SequenceError(expected_seq=run.head + 1, seq=event.seq)
    return Decision.SUBMIT  # the next one, or one that is missing below the head

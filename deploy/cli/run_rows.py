"""A run as rows of a table, for `tidegate run show`."""

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.runs.views import RunView

PACKAGES_SHOWN = 5


def run_rows(
    run: RunView, integrity: Mapping[str, Any], trace: Mapping[str, Any] | None
) -> Iterator[tuple[str, object]]:
    """Yield the run's state and counts, whether it is whole, and what its trace record adds to that."""
    yield from (("status", run.status), ("agent", run.agent_id), ("events", run.event_count))
    yield from (("declared", run.declared_event_count), ("started", run.started_at), ("updated", run.updated_at))
    yield "finalized", run.finalized_at
    if run.is_removed:
        yield "events removed", f"{run.events_removed_count} by retention, last at {run.events_removed_at}"
        for removal in integrity["removed"]["removals"]:
            yield f"head {removal['at'][:10]}", removal["chain_head"]
    yield "complete", integrity["complete"]
    yield "missing", integrity["missing"]["count"]
    yield "duplicates", integrity["duplicates"]
    if integrity["wrong_partition"]:
        yield "wrong partition", f"{integrity['wrong_partition']} records: set their producer's partitioner to murmur2"
    reasons = ", ".join(f"{count} {reason}" for reason, count in integrity["rejected"]["reasons"].items())
    yield "rejected", reasons or 0
    signatures = integrity["signatures"]
    yield "signed", f"{signatures['signed']} of {signatures['signed'] + signatures['unsigned']}"
    yield "chain head", integrity["chain_head"]
    if trace is not None:
        calls = trace["tool_calls"]
        yield from (("duration", f"{trace['duration_s'] or 0:g} s"), ("errors", trace["errors"]))
        yield "tool calls", f"{calls['count']}, {calls['answered']} answered"
        yield "tokens", ", ".join(f"{count} {name}" for name, count in trace["tokens"].items()) or None


def environment_rows(environment: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield what the run ran in; of packages the number and the first."""
    for name, value in environment.items():
        if name == "packages" and isinstance(value, Mapping):
            first = ", ".join(f"{package} {version}" for package, version in list(value.items())[:PACKAGES_SHOWN])
            yield name, f"{len(value)}: {first}{', ...' if len(value) > PACKAGES_SHOWN else ''}"
        elif isinstance(value, Mapping):
            yield name, ", ".join(f"{key}={part}" for key, part in value.items())
        else:
            yield name, value

"""The states of the webhook endpoints, as their workers have reported them to the log."""

from collections.abc import Mapping

from deploy.log.reading import Edge, records
from schemas.kafka.connection import KafkaSettings
from schemas.runs.codec import endpoint_state
from schemas.runs.records import EndpointState
from schemas.runs.topics import ENDPOINT_STATES


def endpoint_states(kafka: KafkaSettings) -> Mapping[str, EndpointState]:
    """
    Return the newest state of each endpoint.

    Raises:
        NotReachable, CommandFailed: see `reading.records`.
    """
    found: dict[str, EndpointState] = {}
    for raw in records(kafka, ENDPOINT_STATES.name, Edge.BEGINNING, follow=False):
        if (state := endpoint_state(raw.value)) is not None:
            found[state.endpoint] = state
    return found

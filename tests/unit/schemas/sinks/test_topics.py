"""The groups of sinks, as a cluster's topics tell of them."""

from schemas.catalogue import all_topics, find_group, groups_among
from schemas.events.topics import USER_EVENTS
from schemas.kafka.topics import Start
from schemas.runs.topics import EVALUATION, RUN_EVENTS
from schemas.sinks.topics import SINK, sink_of, skipping


def test_a_cluster_tells_which_source_each_sink_has() -> None:
    given = {SINK.group("files"), SINK.group("scores", source=RUN_EVENTS)}
    found = {group for group in groups_among(topic.name for topic in all_topics(given)) if sink_of(group)}
    assert found == given
    assert {sink_of(group): group.source for group in found} == {"files": USER_EVENTS, "scores": RUN_EVENTS}


def test_a_sink_is_owed_every_record_and_has_no_tiers() -> None:
    group = SINK.group("files")
    assert (group.id, group.start, group.tiers) == ("tidegate.sink.files", Start.OLDEST, ())
    assert find_group("sink.files") == group
    assert sink_of(EVALUATION.group("files")) is None


def test_orders_to_skip_are_of_a_group_that_no_sink_can_have() -> None:
    order = skipping(SINK.group("files"))
    assert (order.id, order.source) == ("tidegate.sink.files.skip", USER_EVENTS)
    assert find_group(order.name) is None

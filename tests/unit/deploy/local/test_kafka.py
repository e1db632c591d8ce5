"""The broker's settings."""

from pathlib import Path

from deploy.local.kafka import server_properties
from schemas.catalogue import all_topics


def test_the_broker_listens_on_loopback_takes_every_record_and_makes_no_topic_by_itself() -> None:
    text = server_properties(data=Path("/d/kafka/data"), port=9092, controller_port=9093)
    settings = dict(line.split("=", 1) for line in text.splitlines())
    listeners = [*settings["listeners"].split(","), settings["advertised.listeners"]]
    assert all("://127.0.0.1:" in listener for listener in listeners)
    assert int(settings["message.max.bytes"]) >= max(topic.record_bytes_max for topic in all_topics())
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["log.dirs"] == "/d/kafka/data"

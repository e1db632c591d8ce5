"""Topics, headers, settings, migrations and metrics: the small declarations."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.archive.settings import ArchivedTopicsSettings, archive_groups
from schemas.archive.topics import ARCHIVABLE, ARCHIVE, archived_topic
from schemas.catalogue import all_topics, find_group, find_topic, groups_among
from schemas.documents.topics import EMBED, STORE
from schemas.documents.topics import INTAKE as DOCUMENTS_INTAKE
from schemas.events.topics import EVENTS, PROCESSING
from schemas.jobs.topics import INTAKE
from schemas.kafka.connection import KafkaSettings
from schemas.process import migrations, settings, telemetry
from schemas.process.settings import SettingsInvalid, setting
from schemas.runs.records import event_id
from schemas.runs.topics import EVALUATION, PERSISTENCE, RUN_EVENTS, RUN_TRACES


def test_topics_are_named_once_and_within_kafkas_rules() -> None:
    names = [topic.name for topic in all_topics()]
    assert len(names) == len(set(names))
    assert all(name.replace(".", "").replace("-", "").isalnum() and len(name) <= 249 for name in names)
    assert names == [
        "run.events",
        "run.traces",
        "evaluation.endpoints",
        "user.events",
        "document.commands",
        "document.work.high",
        "document.work.normal",
        "document.work.low",
        "document.embedded",
        "document.events",
        "jobs.commands",
        "jobs.events",
        "jobs.reports",
        "run.events.persistence.dlq",
        "run.events.persistence.redrive",
        "run.events.persistence.dlq.settled",
        "user.events.events.dlq",
        "user.events.events.redrive",
        "user.events.events.dlq.settled",
        "document.commands.documents.intake.dlq",
        "document.commands.documents.intake.redrive",
        "document.commands.documents.intake.dlq.settled",
        "document.work.normal.documents.embed.dlq",
        "document.work.normal.documents.embed.redrive",
        "document.work.normal.documents.embed.dlq.settled",
        "document.work.normal.documents.embed.retry.30s",
        "document.work.normal.documents.embed.retry.5m",
        "document.work.normal.documents.embed.retry.1h",
        "document.embedded.documents.store.dlq",
        "document.embedded.documents.store.redrive",
        "document.embedded.documents.store.dlq.settled",
        "jobs.commands.jobs.intake.dlq",
        "jobs.commands.jobs.intake.redrive",
        "jobs.commands.jobs.intake.dlq.settled",
    ]


def test_an_endpoint_has_a_group_with_topics_of_its_own() -> None:
    group = EVALUATION.group("scorer", delays=["5m", "30s"])
    assert group.id == "tidegate.evaluation.scorer"
    assert [topic.name for topic in group.sources] == [
        "run.events",
        "run.events.evaluation.scorer.redrive",
        "run.events.evaluation.scorer.retry.30s",
        "run.events.evaluation.scorer.retry.5m",
    ]
    assert [tier.delay_s for tier in group.tiers] == [30, 300]


def test_each_topic_that_is_archived_has_a_group_of_its_name() -> None:
    for topic in ARCHIVABLE:
        group = find_group(f"archive.{topic.name}")
        assert group is not None
        assert (group.source, archived_topic(group)) == (topic, topic.name)
    assert archived_topic(EVALUATION.group("run.events")) is None
    assert RUN_TRACES not in ARCHIVABLE, "a compacted topic has offsets without records, and is kept for ever"


def test_the_setting_names_the_topics_that_are_archived() -> None:
    found = archive_groups(ArchivedTopicsSettings(topics=" user.events, jobs.commands,user.events "))
    assert [group.name for group in found] == ["archive.user.events", "archive.jobs.commands"]
    assert archive_groups(ArchivedTopicsSettings()) == ()
    with pytest.raises(SettingsInvalid, match=r"run\.traces, nothing cannot be archived"):
        archive_groups(ArchivedTopicsSettings(topics="run.traces,nothing"))


def test_the_lanes_of_documents_are_consumed_by_one_group() -> None:
    assert EMBED.id == "tidegate.documents.embed"
    assert [topic.name for topic in EMBED.sources] == [
        "document.work.normal",
        "document.work.high",
        "document.work.low",
        "document.work.normal.documents.embed.redrive",
        "document.work.normal.documents.embed.retry.30s",
        "document.work.normal.documents.embed.retry.5m",
        "document.work.normal.documents.embed.retry.1h",
    ]
    assert [tier.delay_s for tier in EMBED.tiers] == [30, 300, 3600]


def test_a_clusters_topics_say_which_endpoints_it_has() -> None:
    endpoints = EVALUATION.group("a"), EVALUATION.group("b-2", delays=["1s", "10s"])
    archives = ARCHIVE.group("run.events"), ARCHIVE.group("user.events")
    declared = (PERSISTENCE, EVENTS, DOCUMENTS_INTAKE, EMBED, STORE, INTAKE, PROCESSING, *endpoints, *archives)
    names = [topic.name for topic in all_topics(declared)] + ["other", "run.events.evaluation.UPPER.dlq"]
    assert groups_among(names) == declared


@pytest.mark.parametrize("part", ["dlq", "dlq.settled", "redrive", "retry.30s"])
def test_every_topic_of_an_endpoint_is_found_by_its_name(part: str) -> None:
    name = f"run.events.evaluation.scorer.{part}"
    found = find_topic(name)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("name", ["evaluation.", "evaluation.a.b", "evaluation.A", "evaluation", "other"])
def test_no_group_has_a_name_that_is_none(name: str) -> None:
    assert find_group(name) is None


def test_a_dead_letter_fits_where_its_record_fitted() -> None:
    assert PERSISTENCE.dead_letters.record_bytes_max > RUN_EVENTS.record_bytes_max


def test_a_topic_states_its_broker_settings() -> None:
    assert RUN_TRACES.broker_config()["cleanup.policy"] == "compact"
    assert RUN_EVENTS.broker_config()["retention.ms"] == str(7 * 24 * 3600 * 1000)


def test_an_event_id_depends_on_every_part_and_its_boundary() -> None:
    ids = {
        event_id("a", "bc", 1), event_id("ab", "c", 1), event_id("a", "bc", 11),
        event_id("a", "bc1", 1), event_id("a", "bc", "finalized"),
    }  # fmt: skip
    assert len(ids) == 5
    assert event_id("a", "bc", 1) == event_id("a", "bc", 1)


def test_migrations_are_numbered_without_gaps() -> None:
    steps = migrations.migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    assert migrations.newest_version() == len(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    kafka: KafkaSettings
    count: int = setting("X_COUNT", 5, help="how many", minimum=0)
    folder: Path = setting("X_FOLDER", Path("/tmp"), help="where")
    ratio: float = setting("X_RATIO", 0.5, help="share")
    quiet: bool = setting("X_QUIET", False, help="say less")
    password: str = setting("X_PASSWORD", "none", help="hidden", secret=True)


def test_settings_come_from_the_environment_or_their_default() -> None:
    given = {"TIDEGATE_KAFKA": "k:1", "X_COUNT": "7", "X_QUIET": "yes", "X_PASSWORD": "p", "OTHER": "1"}
    loaded = settings.load(Example, given)
    assert (loaded.kafka.bootstrap, loaded.count, loaded.ratio, loaded.quiet) == ("k:1", 7, 0.5, True)
    assert settings.effective(loaded)["X_PASSWORD"] == "***"


def test_every_wrong_setting_is_named() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        settings.load(Example, {"X_COUNT": "many", "X_QUIET": "perhaps"})
    assert all(name in str(caught.value) for name in ("TIDEGATE_KAFKA", "X_COUNT", "X_QUIET"))


def test_a_setting_may_have_a_minimum() -> None:
    assert settings.load(Example, {"TIDEGATE_KAFKA": "k", "X_COUNT": "0"}).count == 0
    with pytest.raises(SettingsInvalid, match="X_COUNT=-1 is too small: it must be at least 0"):
        settings.load(Example, {"TIDEGATE_KAFKA": "k", "X_COUNT": "-1"})


def test_an_empty_setting_is_an_absent_one() -> None:
    assert settings.load(Example, {"TIDEGATE_KAFKA": "k", "X_COUNT": ""}).count == 5


def test_every_setting_explains_itself() -> None:
    assert all(each.metadata["help"] for each in settings.declarations(Example))


def test_metrics_follow_the_naming_rules() -> None:
    declared = (*telemetry.OF_GATEWAY, *telemetry.OF_FANOUT)  # which has those of every processor
    assert len({metric.name for metric in declared}) == len(declared)
    for metric in declared:
        assert metric.help
        assert metric.name.endswith("_total") == (metric.kind is telemetry.Kind.COUNTER)
        assert not {"run_id", "key"} & set(metric.labels)


def test_an_undeclared_metric_cannot_be_used() -> None:
    instruments = telemetry.Telemetry(telemetry.OF_GATEWAY)
    with pytest.raises(KeyError):
        instruments[telemetry.SLICE_RECORDS]

"""What a person agreed to is what is done about dead letters."""

from collections.abc import Callable, Iterable

import pytest
from typer.testing import CliRunner

from deploy.cli import dlq
from deploy.cli.app import build
from deploy.log.dead_letters import ATTEMPTS_MAX, Letter, Settlement
from deploy.log.reading import Raw
from schemas.kafka.connection import KafkaSettings
from schemas.runs.topics import PERSISTENCE


def letter(offset: int, *, attempt: int = 1) -> Letter:
    raw = Raw(
        topic=PERSISTENCE.dead_letters.name, partition=0, offset=offset, timestamp_ms=0, key=b"r", value=b"", headers=[]
    )
    return Letter(raw=raw, origin="run.events/0/1", reason="undecodable", detail="why", attempt=attempt)


@pytest.mark.parametrize(("command", "done"), [("drop", "put aside"), ("redrive", "sent")])
def test_a_dry_run_says_that_nothing_was_done_and_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, command: str, done: str
) -> None:
    def lag_records(_order: object) -> int:
        pytest.fail("nothing was sent, so nothing is waited for")

    monkeypatch.setattr(dlq, "waiting", lambda *_: iter([letter(1), letter(4)]))
    monkeypatch.setattr(dlq, "DeadLetterSettlement", lambda *_: pytest.fail("nothing may be settled"))
    monkeypatch.setattr(dlq, "_lag_records", lag_records)
    monkeypatch.setattr(dlq.addresses, "kafka", lambda _folder: KafkaSettings(bootstrap="127.0.0.1:1"))
    answered = CliRunner().invoke(build(), ["dlq", command, "--all", "--dry-run"])
    assert answered.exit_code == 0, answered.output
    assert answered.output.splitlines()[-1] == f"dry run: nothing was {done}; 2 dead letters would be"


@pytest.mark.parametrize(("command", "settled"), [("drop", [1, 2, 4]), ("redrive", [1, 4])])
def test_letters_that_come_while_the_question_stands_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, command: str, settled: list[int]
) -> None:
    letters = [letter(1), letter(2, attempt=ATTEMPTS_MAX), letter(4)]
    looks: list[list[Letter]] = [letters, [*letters, letter(5), letter(6)]]
    done: list[int] = []

    class Settlements:
        def __init__(self, *_: object) -> None: ...

        def settle(
            self, meant: Iterable[Letter], _settlement: Settlement, *, on_settled: Callable[[int], None]
        ) -> None:
            done.extend(each.raw.offset for each in meant)
            on_settled(len(done))

    monkeypatch.setattr(dlq, "waiting", lambda *_: iter(looks.pop(0)))
    monkeypatch.setattr(dlq, "DeadLetterSettlement", Settlements)
    monkeypatch.setattr(dlq, "_lag_records", lambda _order: 0)
    monkeypatch.setattr(dlq.addresses, "kafka", lambda _folder: KafkaSettings(bootstrap="127.0.0.1:1"))
    answered = CliRunner().invoke(build(), ["dlq", command, "--all"], input="y\n")
    assert answered.exit_code == 0, answered.output
    assert done == settled

"""`tidegate dlq list|show|redrive|drop`: the records that a group could not handle."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Annotated, cast

import typer

from deploy.admin import lag, problems, topics
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, GROUP_NAMES, Dir, Json, Yes, existing_group, moment
from deploy.cli.output import console, print_json, print_rows, progress_bar, table
from deploy.cli.tail import read_credentials
from deploy.errors import CommandFailed
from deploy.log.dead_letters import ATTEMPTS_MAX, DeadLetterSettlement, Letter, Selection, Settlement, waiting
from deploy.log.showing import show as decoded
from schemas.errors import Reason
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.topics import Group
from schemas.runs.topics import PERSISTENCE

LETTER_PLACE = "dead_letter"
SHOWN_MAX = 50
DETAIL_CHARACTERS_MAX = 80
PASSED_LOOK_S = 0.5
PASSED_PATIENCE_S = 30.0  # without a step forward
DONE = {Settlement.REDRIVEN: "sent", Settlement.DROPPED: "put aside"}

GroupName = Annotated[str, typer.Option("--group", help=f"Whose: {GROUP_NAMES}.")]
Places = Annotated[
    list[str] | None,
    typer.Argument(metavar="PLACE", help="Of dead letters, or of the records that they were: TOPIC/P/OFFSET."),
]
OfReason = Annotated[Reason | None, typer.Option("--reason", help="Only those.")]
OfRun = Annotated[str | None, typer.Option("--run", help="Only those of one run.")]
Since = Annotated[str | None, typer.Option("--since", help="Only those written since then (RFC 3339).")]
Until = Annotated[str | None, typer.Option("--until", help="Only those written before then (RFC 3339).")]
Everything = Annotated[bool, typer.Option("--all", help="All that wait.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Dead letters: records that a group could not handle.")
    group.command("list")(list_letters)
    group.command("show")(show)
    group.command("redrive")(redrive)
    group.command("drop")(drop)
    app.add_typer(group, name="dlq")


def list_letters(
    places: Places = None,
    folder: Dir = DEFAULT_DIR,
    group: GroupName = PERSISTENCE.name,
    *,
    reason: OfReason = None,
    run_id: OfRun = None,
    since: Since = None,
    until: Until = None,
    count: Annotated[int, typer.Option(min=0, help="How many of the oldest to show.")] = SHOWN_MAX,
    as_json: Json = False,
) -> None:
    """Count the dead letters that wait by reason, and show the oldest."""
    kafka = addresses.kafka(folder)
    of = existing_group(group, kafka)
    counter = _Counter(kafka, of, _selection(places, reason, run_id, since, until))
    shown: list[dict[str, object]] = []
    for letter in counter.letters():
        if len(shown) < count:
            shown.append(_row(letter))
    if as_json:
        print_json({"group": of.name, "waiting": counter.total, "by_reason": counter.by_reason, "letters": shown})
        return
    counter.print()
    # A terminal is narrow: where a record was says enough to name its letter.
    print_rows([{name: row[name] for name in row if name != LETTER_PLACE} for row in shown], as_json=False)
    if counter.total > len(shown):
        console.print(f"and {counter.total - len(shown)} more (--count)")
    for other in problems.of_dead_letters(kafka, (each for each in topics.groups_of(kafka) if each != of)):
        console.print(other)


def show(
    place: Annotated[str, typer.Argument(help="Of a dead letter, or of the record that it was: TOPIC/P/OFFSET.")],
    folder: Dir = DEFAULT_DIR,
    group: GroupName = PERSISTENCE.name,
    *,
    as_json: Json = False,
) -> None:
    """Show one dead letter whole: why it is one, its headers, and what it says, decoded and verified."""
    kafka = addresses.kafka(folder)
    letter = next(waiting(kafka, existing_group(group, kafka), Selection(places=frozenset([place]))), None)
    if letter is None:
        raise CommandFailed(f"no dead letter of {group} waits at {place}; `tidegate dlq list` names them")
    document = decoded(letter.raw, read_credentials(folder)).document()
    if as_json:
        print_json(_row(letter) | {"detail": letter.detail} | document)
        return
    headers, record = (cast("dict[str, object]", document.pop(name) or {}) for name in ("headers", "record"))
    console.print(table(("", ""), {**_row(letter), "detail": letter.detail, **document}.items()))
    console.print(table(("header", ""), headers.items()))
    if record:
        console.print(table(("field", ""), record.items()))


def redrive(
    places: Places = None,
    folder: Dir = DEFAULT_DIR,
    group: GroupName = PERSISTENCE.name,
    *,
    reason: OfReason = None,
    run_id: OfRun = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option(help="Wait until the group has handled them.")] = True,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """
    Send dead letters back to the group that gave up on them, under their own places; no other group sees them.

    One is sent back at most three times. Interrupted, the same command goes on with those that still wait.
    """
    selection = _selection(places, reason, run_id, since, until, everything=everything)
    kafka = addresses.kafka(folder)
    order = _Order(kafka=kafka, group=existing_group(group, kafka), selection=selection, settlement=Settlement.REDRIVEN)
    done = order.carry_out(question="Send {} dead letters back?", dry_run=dry_run, yes=yes, as_json=as_json)
    lag_records = _wait_passed(order, shown=not as_json) if done and wait and not dry_run else None
    order.report(done, dry_run=dry_run, as_json=as_json, lag_records=lag_records)


def drop(
    places: Places = None,
    folder: Dir = DEFAULT_DIR,
    group: GroupName = PERSISTENCE.name,
    *,
    reason: OfReason = None,
    run_id: OfRun = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put dead letters aside for good: they are listed no more. Their bytes stay until the topic lets go of them."""
    selection = _selection(places, reason, run_id, since, until, everything=everything)
    kafka = addresses.kafka(folder)
    order = _Order(kafka=kafka, group=existing_group(group, kafka), selection=selection, settlement=Settlement.DROPPED)
    done = order.carry_out(question="Put {} dead letters aside for good?", dry_run=dry_run, yes=yes, as_json=as_json)
    order.report(done, dry_run=dry_run, as_json=as_json)


class _Counter:
    """A counter of the letters of a selection while they are read."""

    def __init__(self, kafka: KafkaSettings, group: Group, selection: Selection) -> None:
        self._group = group
        self._found = waiting(kafka, group, selection)
        self.by_reason: Counter[str] = Counter()
        self.exhausted = 0
        self.cut = 0
        self.last_offset = -1  # of what was looked at; the topic has one partition

    @property
    def total(self) -> int:
        return self.by_reason.total()

    def letters(self) -> Iterator[Letter]:
        for letter in self._found:
            self.by_reason[letter.reason] += 1
            self.cut += letter.is_cut
            self.exhausted += letter.is_exhausted and not letter.is_cut
            self.last_offset = letter.raw.offset
            yield letter

    def count(self) -> None:
        for _ in self.letters():
            pass

    def print(self) -> None:
        if not self.total:
            console.print(f"no dead letters of {self._group.name} wait")
            return
        console.print(table(("reason", "dead letters"), self.by_reason.most_common()))


@dataclass(kw_only=True)
class _Order:
    """An order to redrive or drop selected dead letters: it counts them, asks for confirmation, then acts."""

    kafka: KafkaSettings
    group: Group
    selection: Selection
    settlement: Settlement
    exhausted: int = 0
    cut: int = 0

    def carry_out(self, *, question: str, dry_run: bool, yes: bool, as_json: bool) -> int:
        """Return how many letters were settled, or with *dry_run* would be."""
        counter = _Counter(self.kafka, self.group, self.selection)
        counter.count()
        if self.settlement is Settlement.REDRIVEN:
            self.exhausted, self.cut = counter.exhausted, counter.cut
        meant = counter.total - self.exhausted - self.cut
        if not as_json:
            counter.print()
        if dry_run or not meant:
            return meant
        if not yes:
            typer.confirm(question.format(meant), abort=True)
        with progress_bar(shown=not as_json) as progress:
            bar = progress.add_task(self.settlement.value, total=meant)
            desk = DeadLetterSettlement(self.kafka, self.group)
            letters = self._meant(counter.last_offset)
            desk.settle(letters, self.settlement, on_settled=lambda count: progress.advance(bar, count))
            return round(progress.tasks[bar].completed)

    def _meant(self, last_offset: int) -> Iterator[Letter]:
        for letter in waiting(self.kafka, self.group, self.selection):
            if letter.raw.offset > last_offset:  # it came while the question stood: nobody was asked about it
                return
            if self.settlement is Settlement.DROPPED or not (letter.is_exhausted or letter.is_cut):
                yield letter

    def report(self, done: int, *, dry_run: bool, as_json: bool, lag_records: int | None = None) -> None:
        """Print what was done."""
        if as_json:
            print_json(
                {self.settlement.value: 0 if dry_run else done, "would_be": done if dry_run else None}
                | {"exhausted": self.exhausted, "cut": self.cut, "lag_records": lag_records}
            )
            return
        if dry_run:
            console.print(f"dry run: nothing was {DONE[self.settlement]}; {done} dead letters would be")
        else:
            console.print(f"{done} dead letters {self.settlement.value}")
        if self.exhausted:
            console.print(f"{self.exhausted} were sent back {ATTEMPTS_MAX - 1} times already and stay")
        if self.cut:
            console.print(
                f"{self.cut} have lost bytes of their records and cannot be sent back: "
                "their origin names the record in the log"
            )
        if lag_records:
            console.print(
                f"{self.group.name} has {lag_records} of them left to handle; its /readyz says what it waits for"
            )
        elif lag_records == 0:
            console.print(f"{self.group.name} has handled them; those that failed again are dead letters again")


def _wait_passed(order: _Order, *, shown: bool) -> int:
    """Return how many records of its redrive topic the group has not passed, once it has, or goes on no more."""
    left = _lag_records(order)
    with progress_bar(shown=shown) as progress:
        total = left
        bar = progress.add_task("handled", total=total)
        moved_s = monotonic()
        while left and monotonic() - moved_s < PASSED_PATIENCE_S:
            sleep(PASSED_LOOK_S)
            before, left = left, _lag_records(order)
            if left != before:
                moved_s = monotonic()
            progress.update(bar, completed=total - left)
    return left


def _lag_records(order: _Order) -> int:
    of_redrive = [each for each in lag.measure(order.kafka) if each.topic == order.group.redrive.name]
    return sum(each.records or 0 for each in of_redrive)


def _row(letter: Letter) -> dict[str, object]:
    detail = (
        letter.detail if len(letter.detail) <= DETAIL_CHARACTERS_MAX else f"{letter.detail[:DETAIL_CHARACTERS_MAX]}…"
    )
    return {
        LETTER_PLACE: letter.place,
        "origin": letter.origin,
        "key": letter.key,
        "at": letter.at,
        "attempt": letter.attempt,
        "bytes": "cut" if letter.is_cut else "whole",
        "reason": letter.reason,
        "detail": detail,
    }


def _selection(
    places: list[str] | None,
    reason: Reason | None,
    run_id: str | None,
    since: str | None,
    until: str | None,
    *,
    everything: bool = True,
) -> Selection:
    if not everything and not any((places, reason, run_id, since, until)):
        raise typer.BadParameter("name dead letters, give a filter, or say --all")
    return Selection(
        places=frozenset(places or ()), reason=reason, run_id=run_id, since=moment(since), until=moment(until)
    )

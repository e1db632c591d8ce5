"""A backlog that several gateways fill, as each admits, and that is drained at a rate; seen late, once a second."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from math import inf

from schemas.pacing.cost_admission import CostAdmission
from schemas.pacing.presets import Preset

ASKS_PER_S = 20  # times a second at which every gateway asks


@dataclass(slots=True)
class Second:
    """The figures of one second."""

    admitted: float
    drained: float
    backlog: float
    rates: Sequence[float]  # of the gateways, once the second is over; infinite: no limit


@dataclass(slots=True)
class Client:
    """A client of one gateway, which sends all it can up to its rate, in order, and asks again when it is told to."""

    admission: CostAdmission
    asks_per_s: float
    costs: Iterator[float]
    waits_until_s: float = 0.0
    owed: float = 0.0  # of its rate
    _next: float | None = None

    def send(self, now_s: float) -> float:
        """Return the cost that was admitted of what is due by now."""
        self.owed = min(self.owed + self.asks_per_s / ASKS_PER_S, self.asks_per_s + (self._next or 0.0))
        admitted = 0.0
        while self.owed > 0 and self.asks_per_s and now_s >= self.waits_until_s:
            if self._next is None:
                self._next = next(self.costs)
            if wait_s := self.admission.admit(self._next, now_s):
                self.waits_until_s = now_s + wait_s
                break
            admitted += self._next
            self.owed -= self._next
            self._next = None
        return admitted


@dataclass(slots=True)
class Simulation:
    """The gateways, their clients and the backlog."""

    clients: list[Client]
    drain_per_s: float
    commits_every_s: int = 1
    is_blind: bool = False
    oldest_s: Callable[[float], float | None] = lambda _: None
    backlog: float = 0.0
    seconds: list[Second] = field(default_factory=list)
    _uncommitted: float = 0.0

    def run(self, seconds: int) -> Sequence[Second]:
        """Go on for so many seconds and return them."""
        for _ in range(seconds):
            self._second(float(len(self.seconds)))
        return self.seconds[-seconds:]

    def _second(self, start_s: float) -> None:
        seen = self.backlog + self._uncommitted  # as of the begin of the second: what is seen is late
        admitted = drained = 0.0
        for part in range(ASKS_PER_S):
            now_s = start_s + part / ASKS_PER_S
            # Whoever asks first gets on first: none of them is always it.
            turn = part % len(self.clients)
            came = sum(client.send(now_s) for client in (*self.clients[turn:], *self.clients[:turn]))
            done = min(self.backlog + came, self.drain_per_s / ASKS_PER_S)
            self.backlog += came - done
            admitted, drained = admitted + came, drained + done
        self._uncommitted += drained
        committed = 0.0
        if (len(self.seconds) + 1) % self.commits_every_s == 0:
            committed, self._uncommitted = self._uncommitted, 0.0
        for client in self.clients:
            client.admission.step(
                None if self.is_blind else seen, committed, start_s + 1, oldest_s=self.oldest_s(start_s + 1)
            )
        rates = [inf if each.admission.rate_per_s is None else each.admission.rate_per_s for each in self.clients]
        self.seconds.append(Second(admitted, drained, self.backlog, rates))


def simulated(
    preset: Preset,
    *,
    drain_per_s: float,
    asks_per_s: Sequence[float],
    cost: float = 10.0,
    known_gateways: int | None = None,
    commits_every_s: int = 1,
) -> Simulation:
    """Return a simulation with a client for each of *asks_per_s*; *known_gateways* of None: as many as there are."""
    gateways = known_gateways or len(asks_per_s)
    admissions = [CostAdmission(preset, item_cost=cost, gateways=gateways) for _ in asks_per_s]
    clients = [Client(admission, rate, repeat(cost)) for admission, rate in zip(admissions, asks_per_s, strict=True)]
    return Simulation(clients, drain_per_s, commits_every_s=commits_every_s)

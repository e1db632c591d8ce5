"""The health of a worker: its membership in its group, and what each lane waits for."""

from dataclasses import dataclass, field

from schemas.kafka.places import Partition

NO_PARTITION = (
    "no partition is assigned to this process: its group has more workers than it can use, or its topics are missing"
)


@dataclass(slots=True)
class Health:
    """The state behind /readyz."""

    joined: bool = False  # the group has given us an assignment, possibly an empty one
    partitions: int | None = None  # how many it has given us; None: the process has no group
    problem: str | None = None  # why nothing can be consumed at all
    waiting: dict[Partition | str, str] = field(default_factory=dict)  # why each partition or periodic task waits
    # Stopped by the dead-letter limit, by a log that was cut off, or by a setting that is wrong.
    halted: set[Partition | str] = field(default_factory=set)

    def mark_waiting(self, partition: Partition | str, reason: str) -> None:
        """Note that the lane of *partition* waits, for nobody."""
        self.halted.discard(partition)
        self.waiting[partition] = reason

    def mark_halted(self, partition: Partition | str, reason: str) -> None:
        """Note that the lane of *partition* waits for a person."""
        self.mark_waiting(partition, reason)
        self.halted.add(partition)

    def mark_resumed(self, partition: Partition | str) -> None:
        """Note that the lane of *partition* works again."""
        self.waiting.pop(partition, None)
        self.halted.discard(partition)

    def mark_assigned(self, partitions: int | None = None) -> None:
        """Note a new assignment of so many partitions: lanes begin again."""
        self.joined = True
        self.partitions = partitions
        self.waiting.clear()
        self.halted.clear()

    def reason(self) -> str | None:
        """
        Return the reason why the process is not ready; None while it starts, or if each waiting lane has its own
        reason.
        """
        if self.problem is None and self.partitions == 0:
            return NO_PARTITION
        return self.problem

    def status(self) -> str:
        """Return one word for /readyz: starting, unready, degraded or ready."""
        if not self.joined:
            return "starting"
        if self.problem is not None or self.partitions == 0:
            return "unready"
        return "degraded" if self.waiting else "ready"

"""What a worker says of itself: whether it is in its group, and which lanes wait for what."""

from dataclasses import dataclass, field

from processors.runtime.batch import Partition


@dataclass(slots=True)
class Health:
    """The state behind /readyz."""

    joined: bool = False  # the group has given us an assignment, possibly an empty one
    waiting: dict[Partition, str] = field(default_factory=dict)  # why each waiting lane waits
    halted: set[Partition] = field(default_factory=set)  # lanes stopped by the dead-letter limit

    def waits(self, partition: Partition, reason: str) -> None:
        """Note that the lane of *partition* waits."""
        self.waiting[partition] = reason

    def halts(self, partition: Partition, reason: str) -> None:
        """Note that the lane of *partition* waits for a person."""
        self.halted.add(partition)
        self.waits(partition, reason)

    def goes_on(self, partition: Partition) -> None:
        """Note that the lane of *partition* works again."""
        self.waiting.pop(partition, None)
        self.halted.discard(partition)

    def joins(self) -> None:
        """Note a new assignment: lanes start anew."""
        self.joined = True
        self.waiting.clear()
        self.halted.clear()

    def status(self) -> str:
        """One word for /readyz: starting, ready or degraded."""
        if not self.joined:
            return "starting"
        return "degraded" if self.waiting else "ready"

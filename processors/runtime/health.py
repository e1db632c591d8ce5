"""What a worker says of itself: whether it is in its group, and which lanes wait for what."""

from dataclasses import dataclass, field

from processors.runtime.batch import Partition


@dataclass(slots=True)
class Health:
    """The state behind /readyz."""

    joined: bool = False  # the group has given us an assignment, possibly an empty one
    waiting: dict[Partition, str] = field(default_factory=dict)  # why each waiting lane waits

    def waits(self, partition: Partition, reason: str) -> None:
        """Note that the lane of *partition* waits."""
        self.waiting[partition] = reason

    def goes_on(self, partition: Partition) -> None:
        """Note that the lane of *partition* works again."""
        self.waiting.pop(partition, None)

    def gives_up(self, partitions: list[Partition]) -> None:
        """Forget lanes of partitions that are not ours any more."""
        for partition in partitions:
            self.waiting.pop(partition, None)

    def status(self) -> str:
        """One word for /readyz: starting, ready or degraded."""
        if not self.joined:
            return "starting"
        return "degraded" if self.waiting else "ready"

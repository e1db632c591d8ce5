"""One thread for one Kafka client, whose calls block."""

from collections.abc import Callable

from confluent_kafka import KafkaException

from gateway.errors import LogUnavailable
from gateway.onethread import Answer, Given, OneThread

WAITING_MAX = 32


class ClientThread(OneThread):
    """A thread that runs a client's calls in order; two calls, closing included, never use the client at once."""

    def __init__(self, name: str) -> None:
        """Prepare; the thread starts with the first call."""
        super().__init__(name, waiting_max=WAITING_MAX, full="too many look into the log at this moment")

    async def run(self, call: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """
        Return what *call* returns.

        Raises:
            QueueFull: too many wait already. Answer 429.
            LogUnavailable: Kafka does not answer. Answer 503.
        """
        try:
            return await super().run(call, *args, **kwargs)
        except KafkaException as error:
            raise LogUnavailable(f"the log cannot be read: {error}") from error

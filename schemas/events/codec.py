"""The type of the record of user events, and its codec."""

from schemas.events.records import Authenticated, UserEvent
from schemas.kafka.codec import Codec, RecordType

USER_EVENT = RecordType(name="tidegate.events.UserEvent", cls=UserEvent, converters={"authenticated": Authenticated})

EVENT_CODEC: Codec[UserEvent] = Codec((USER_EVENT,))

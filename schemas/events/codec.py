"""The type of the record of user events, and its codec."""

from schemas.events import plain_event
from schemas.events.records import Authenticated, UserEvent
from schemas.kafka.codec import Codec, RecordType, Shortcut

USER_EVENT = RecordType(
    name="tidegate.events.UserEvent",
    cls=UserEvent,
    converters={"authenticated": Authenticated},
    shortcut=Shortcut(schema_id=plain_event.SCHEMA_ID, write=plain_event.write_event, read=plain_event.read_event),
)

EVENT_CODEC: Codec[UserEvent] = Codec((USER_EVENT,))

"""Records of commands."""

from gateway.kafka.records import OutgoingRecord, Stamp, sealed
from schemas.documents.codec import COMMAND_CODEC
from schemas.documents.records import Command, key_of, record_id
from schemas.documents.topics import DOCUMENT_COMMANDS


def command_record(command: Command, stamp: Stamp) -> OutgoingRecord:
    """Return the record of a command."""
    return sealed(
        DOCUMENT_COMMANDS.name,
        key=key_of(command),
        value=COMMAND_CODEC.encode(command),
        tenant=command.tenant,
        event_id=record_id(command),
        stamp=stamp,
    )

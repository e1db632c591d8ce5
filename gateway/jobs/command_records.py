"""Records of commands."""

from gateway.kafka.records import OutgoingRecord, Stamp, sealed
from schemas.jobs.codec import COMMAND_CODEC
from schemas.jobs.records import Command, key_of, record_id
from schemas.jobs.topics import JOB_COMMANDS


def command_record(command: Command, stamp: Stamp) -> OutgoingRecord:
    """Return the record of a command."""
    return sealed(
        JOB_COMMANDS.name,
        key=key_of(command),
        value=COMMAND_CODEC.encode(command),
        tenant=command.tenant,
        event_id=record_id(command),
        stamp=stamp,
    )

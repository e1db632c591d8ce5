"""What becomes of a record that the log does not take."""

import pytest

from processors.runtime.dead_letters import LogWriter, OutgoingRecord
from processors.runtime.errors import RecordRefused
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.topics import LETTER_BYTES_MAX
from schemas.runs.topics import PERSISTENCE


async def test_a_record_that_is_too_large_is_refused_and_no_outage() -> None:
    """The client knows it without a broker; such a record was tried again for ever."""
    writer = LogWriter(KafkaSettings(bootstrap="127.0.0.1:1"), client_id="test")
    with pytest.raises(RecordRefused, match="MSG_SIZE_TOO_LARGE"):
        await writer.write(
            PERSISTENCE.dead_letters, [OutgoingRecord(key=None, value=bytes(LETTER_BYTES_MAX + 1), headers=[])]
        )

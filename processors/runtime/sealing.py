"""Records that a processor writes for others to handle, sealed as a gateway seals its own."""

from processors.runtime.dead_letters import OutgoingRecord
from schemas.access.credentials import CurrentCredentials
from schemas.kafka import headers
from schemas.kafka.seal import record_mac
from schemas.kafka.topics import Topic


def sealed_record(
    topic: Topic, *, record_id: str, key: bytes, tenant: str, value: bytes, by: CurrentCredentials
) -> OutgoingRecord:
    """Return a record of ours, sealed with the gateways' secret, so that its readers trust it."""
    owner = tenant.encode()
    mac = record_mac(by().gateway.mac_secrets[0], topic=topic.name, key=key, tenant=owner, value=value)
    return OutgoingRecord(
        key=key,
        value=value,
        headers=[(headers.EVENT_ID, record_id.encode()), (headers.TENANT, owner), (headers.GATEWAY_MAC, mac)],
    )

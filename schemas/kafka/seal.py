"""
The seal of a record: the `gateway-mac` header, by which a gateway or a processor of ours vouches for a record.

HMAC-SHA256 over topic, key, tenant and value with the gateways' own secret. Anyone with access to Kafka can produce to
a topic; a record without a valid seal is checked from the ground up by each consumer group.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from functools import lru_cache

from schemas.kafka import headers as header_names

_BLOCK_BYTES = 64  # of SHA-256
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def record_mac(secret: str, *, topic: str, key: bytes, tenant: bytes, value: bytes) -> bytes:
    """
    Return the `gateway-mac` header, as hex: proof that a gateway of ours checked this record.

    Each part is framed by its length, so that no two different records share one message.
    """
    name = topic.encode()
    inner, outer = _keyed(secret)
    message, mac = inner.copy(), outer.copy()
    message.update(b"%d/%d/%d/%b%b%b%b" % (len(name), len(key), len(tenant), name, key, tenant, value))
    mac.update(message.digest())
    return mac.hexdigest().encode()


def record_mac_holds(
    mac: bytes, secrets: Sequence[str], *, topic: str, key: bytes, tenant: bytes, value: bytes
) -> bool:
    """Return True if *mac* was made with one of the gateway's *secrets*."""
    for secret in secrets:
        if hmac.compare_digest(record_mac(secret, topic=topic, key=key, tenant=tenant, value=value), mac):
            return True
    return False


def is_sealed(
    *, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes | None], secrets: Sequence[str]
) -> bool:
    """Return True if the record's seal was made with one of the gateways' *secrets* for these bytes and this tenant."""
    mac, tenant = headers.get(header_names.GATEWAY_MAC), headers.get(header_names.TENANT)
    if mac is None or tenant is None or key is None or value is None:
        return False
    return record_mac_holds(mac, secrets, topic=topic, key=key, tenant=tenant, value=value)


@lru_cache(maxsize=64)  # more than a file's secrets and those that were removed from it a moment ago
def _keyed(secret: str) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """
    Return HMAC's two hashes (RFC 2104), each with its half of the key absorbed.

    One MAC is made for every record of the log: with copies of these it costs half of `hmac.digest`, and two thirds of
    a copied `hmac.HMAC`, which is a Python object around another.
    """
    key = secret.encode()
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    key = key.ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(key.translate(_INNER)), hashlib.sha256(key.translate(_OUTER))

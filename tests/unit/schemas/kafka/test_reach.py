"""Why no broker answers, where no broker is needed to find out."""

from pathlib import Path

from schemas.kafka.connection import KafkaSettings, Security
from schemas.kafka.reach import connection_fault


def test_a_certificate_file_that_is_none_is_told() -> None:
    kafka = KafkaSettings(bootstrap="127.0.0.1:1", security=Security.SSL, ca=Path(__file__))
    fault = connection_fault(kafka, timeout_s=1)
    assert fault is not None
    assert fault.startswith("Kafka's TLS settings cannot be used: ")
    assert fault.endswith("check TIDEGATE_KAFKA_CA, TIDEGATE_KAFKA_CERTIFICATE and TIDEGATE_KAFKA_KEY")


def test_nobody_at_the_address_is_told() -> None:
    fault = connection_fault(KafkaSettings(bootstrap="127.0.0.1:1"), timeout_s=1)
    assert fault == "no Kafka answers at 127.0.0.1:1 (TIDEGATE_KAFKA)"

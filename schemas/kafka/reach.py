"""The reason why no broker answers, in one line that says what to do."""

import socket
import ssl
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.kafka.connection import KafkaSettings, confluent_options, tls_context

LOGIN_SETTINGS = "TIDEGATE_KAFKA_USERNAME, TIDEGATE_KAFKA_PASSWORD_FILE and TIDEGATE_KAFKA_MECHANISM"
TLS_SETTINGS = "TIDEGATE_KAFKA_CA, TIDEGATE_KAFKA_CERTIFICATE and TIDEGATE_KAFKA_KEY"
CONNECT_S = 2.0


def connection_fault(kafka: KafkaSettings, *, timeout_s: float) -> str | None:
    """Return why no broker answers within *timeout_s*; None if one does. Blocks."""
    errors: list[KafkaError] = []
    try:
        client = AdminClient({**confluent_options(kafka), "log_level": 0, "error_cb": errors.append})
    except KafkaException as error:  # a file that is not PEM, or a key of another certificate
        return f"Kafka's TLS settings cannot be used: {error}; check {TLS_SETTINGS}"
    try:
        client.list_topics(timeout=timeout_s)
    except KafkaException:
        client.poll(0)  # calls error_cb
        return _fault(errors, kafka)
    return None


def _fault(errors: Sequence[KafkaError], kafka: KafkaSettings) -> str:
    for error in errors:
        if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001  # its public spelling
            return f"Kafka at {kafka} refuses the login of {kafka.username!r}: check {LOGIN_SETTINGS}"
        if error.code() == KafkaError._SSL:  # noqa: SLF001  # its public spelling
            return _tls_fault(kafka) or f"TLS with Kafka at {kafka} fails: {error.str()}"
    if any(_is_open(server) for server in kafka.servers):
        return (
            f"{kafka} takes connections but does not answer as Kafka (TIDEGATE_KAFKA): "
            f"see that TIDEGATE_KAFKA_SECURITY={kafka.security} is what its listener asks for"
        )
    return f"no Kafka answers at {kafka} (TIDEGATE_KAFKA)"


def _tls_fault(kafka: KafkaSettings) -> str | None:
    """Return what is wrong with a broker's certificate, which librdkafka does not say; None if nothing is found."""
    for server in kafka.servers:
        try:
            with (
                _connected(server) as connection,
                tls_context(kafka).wrap_socket(connection, server_hostname=_host_of(server)),
            ):
                continue
        except ssl.SSLCertVerificationError as error:
            return (
                f"the certificate of Kafka at {server} is refused: {error.verify_message}; "
                "check TIDEGATE_KAFKA_CA, and that TIDEGATE_KAFKA has the host as the certificate names it"
            )
        except (OSError, ValueError):
            continue
    return None


def _is_open(server: str) -> bool:
    try:
        _connected(server).close()
    except (OSError, ValueError):
        return False
    return True


def _connected(server: str) -> socket.socket:
    return socket.create_connection((_host_of(server), int(server.rpartition(":")[2])), CONNECT_S)


def _host_of(server: str) -> str:
    return server.rpartition(":")[0].strip("[]")

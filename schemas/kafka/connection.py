"""
The connection to Kafka: where the brokers are, and how a client and they prove to each other who they are.

Every Kafka client of Tidegate is made from `KafkaSettings`, in the form of its library: confluent's or aiokafka's.
"""

import shlex
import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from schemas.process.settings import SettingsInvalid, setting


class Security(StrEnum):
    """Kafka's names of how a connection is secured."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def has_login(self) -> bool:
        """Return True if a client logs in."""
        return self in (Security.SASL_PLAINTEXT, Security.SASL_SSL)

    @property
    def has_tls(self) -> bool:
        """Return True if the connection is encrypted and the broker has a certificate."""
        return self in (Security.SSL, Security.SASL_SSL)


class Mechanism(StrEnum):
    """Kafka's names of how a client logs in."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """The addresses of the brokers, and how to connect to them."""

    bootstrap: str = setting("TIDEGATE_KAFKA", help="Kafka bootstrap servers, host:port, comma separated")
    security: Security = setting(
        "TIDEGATE_KAFKA_SECURITY",
        Security.PLAINTEXT,
        help="How connections to Kafka are secured: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    )
    mechanism: Mechanism = setting(
        "TIDEGATE_KAFKA_MECHANISM",
        Mechanism.SCRAM_SHA_512,
        help="How a client logs in with SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    )
    username: str = setting("TIDEGATE_KAFKA_USERNAME", "", help="Who logs in with SASL")
    password_file: Path | None = setting(
        "TIDEGATE_KAFKA_PASSWORD_FILE", None, help="The file with the password of that user; read when a client is made"
    )
    ca: Path | None = setting(
        "TIDEGATE_KAFKA_CA",
        None,
        help="With TLS, the certificates (PEM) that a broker's must be signed by; empty: those of the system",
    )
    certificate: Path | None = setting(
        "TIDEGATE_KAFKA_CERTIFICATE",
        None,
        help="With TLS, the client's own certificate (PEM), where brokers ask for it",
    )
    key: Path | None = setting("TIDEGATE_KAFKA_KEY", None, help="The private key (PEM) of that certificate")

    def __post_init__(self) -> None:
        """Raise SettingsInvalid where a setting lacks another, or a file cannot be read."""
        problems = [*self._missing(), *self._unreadable()]
        if problems:
            raise SettingsInvalid("; ".join(problems))

    def __str__(self) -> str:
        """Return the bootstrap servers, as messages name the log."""
        return self.bootstrap

    def _missing(self) -> list[str]:
        problems = []
        if self.security.has_login and not (self.username and self.password_file):
            needed = "TIDEGATE_KAFKA_USERNAME and TIDEGATE_KAFKA_PASSWORD_FILE"
            problems.append(f"TIDEGATE_KAFKA_SECURITY={self.security} needs {needed}")
        if (self.certificate is None) != (self.key is None):
            problems.append("TIDEGATE_KAFKA_CERTIFICATE and TIDEGATE_KAFKA_KEY are set together or not at all")
        if not self.security.has_tls and (self.ca or self.certificate):
            problems.append(f"TIDEGATE_KAFKA_SECURITY={self.security} has no TLS: set SSL or SASL_SSL")
        return problems

    def _unreadable(self) -> list[str]:
        named = {
            "TIDEGATE_KAFKA_PASSWORD_FILE": self.password_file,
            "TIDEGATE_KAFKA_CA": self.ca,
            "TIDEGATE_KAFKA_CERTIFICATE": self.certificate,
            "TIDEGATE_KAFKA_KEY": self.key,
        }
        problems = []
        for name, path in named.items():
            try:
                if path is not None:
                    path.read_bytes()
            except OSError as error:
                problems.append(f"{name}={path} cannot be read: {error.strerror}")
        return problems

    @property
    def servers(self) -> list[str]:
        """Return the bootstrap servers, each host:port."""
        return [server.strip() for server in self.bootstrap.split(",")]

    def password(self) -> str:
        """Return the password as its file has it now, without the line break at its end."""
        return self.password_file.read_text().rstrip("\r\n") if self.password_file else ""


def confluent_options(kafka: KafkaSettings) -> dict[str, str]:
    """Return the settings with which a confluent client connects."""
    options = {"bootstrap.servers": kafka.bootstrap}
    if kafka.security is not Security.PLAINTEXT:
        options["security.protocol"] = kafka.security.value
    if kafka.security.has_login:
        options |= {
            "sasl.mechanism": kafka.mechanism.value,
            "sasl.username": kafka.username,
            "sasl.password": kafka.password(),
        }
    if kafka.security.has_tls:
        paths = {
            "ssl.ca.location": kafka.ca,
            "ssl.certificate.location": kafka.certificate,
            "ssl.key.location": kafka.key,
        }
        options |= {name: str(path) for name, path in paths.items() if path is not None}
        options["ssl.endpoint.identification.algorithm"] = "https"
    return options


def aiokafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the arguments with which an aiokafka client connects. Blocks: it reads files."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.servers,
        "security_protocol": kafka.security.value,
    }
    if kafka.security.has_login:
        options |= {
            "sasl_mechanism": kafka.mechanism.value,
            "sasl_plain_username": kafka.username,
            "sasl_plain_password": kafka.password(),
        }
    if kafka.security.has_tls:
        options["ssl_context"] = tls_context(kafka)
    return options


def tls_context(kafka: KafkaSettings) -> ssl.SSLContext:
    """Return the context that checks a broker's certificate and host name. Blocks: it reads files."""
    context = ssl.create_default_context(cafile=kafka.ca)
    if kafka.certificate is not None:
        context.load_cert_chain(kafka.certificate, kafka.key)
    return context


def kcat_options(kafka: KafkaSettings) -> list[str]:
    """Return the options, each quoted for a shell, with which kcat connects; the password stays in its file."""
    options = confluent_options(kafka)
    words = ["-b", shlex.quote(options.pop("bootstrap.servers"))]
    for name, value in options.items():
        quoted = f'"$(cat {shlex.quote(str(kafka.password_file))})"' if name == "sasl.password" else shlex.quote(value)
        words += ["-X", f"{name}={quoted}"]
    return words

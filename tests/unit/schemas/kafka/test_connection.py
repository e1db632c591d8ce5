"""The settings of a connection to Kafka: what is refused, and what each library is given."""

import ssl
from pathlib import Path

import pytest

from schemas.kafka.connection import KafkaSettings, aiokafka_options, confluent_options, kcat_options
from schemas.process import settings
from schemas.process.settings import SettingsInvalid
from tests.support.certificates import Authority


def connection(**changed: str) -> KafkaSettings:
    environ = {f"TIDEGATE_KAFKA_{name}": value for name, value in changed.items()}
    return settings.load(KafkaSettings, {"TIDEGATE_KAFKA": "a:1, b:2"} | environ)


@pytest.fixture
def secured(tmp_path: Path) -> KafkaSettings:
    """Return everything set: TLS with a certificate of the client's own, and a login."""
    authority, password = Authority(tmp_path, "authority"), tmp_path / "the password"
    own = authority.sign("client", host="client.example")
    password.write_text("it's\n")
    return connection(
        SECURITY="SASL_SSL",
        MECHANISM="SCRAM-SHA-256",
        USERNAME="me",
        PASSWORD_FILE=str(password),
        CA=str(authority.certificate),
        CERTIFICATE=str(own.certificate),
        KEY=str(own.key),
    )


def test_without_security_the_servers_are_all_that_is_given() -> None:
    assert confluent_options(connection()) == {"bootstrap.servers": "a:1, b:2"}
    assert aiokafka_options(connection()) == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert kcat_options(connection()) == ["-b", "'a:1, b:2'"]


def test_each_library_is_given_the_same_connection(secured: KafkaSettings) -> None:
    assert confluent_options(secured) == {
        "bootstrap.servers": "a:1, b:2",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "me",
        "sasl.password": "it's",
        "ssl.ca.location": str(secured.ca),
        "ssl.certificate.location": str(secured.certificate),
        "ssl.key.location": str(secured.key),
        "ssl.endpoint.identification.algorithm": "https",
    }
    options = aiokafka_options(secured)
    context = options.pop("ssl_context")
    assert options == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "me",
        "sasl_plain_password": "it's",
    }
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_the_password_is_read_from_its_file_and_shown_nowhere(secured: KafkaSettings) -> None:
    shown = [str(secured), repr(secured), *settings.effective(secured).values(), *kcat_options(secured)]
    assert not [text for text in shown if "it's" in text]
    assert f"sasl.password=\"$(cat '{secured.password_file}')\"" in kcat_options(secured)
    assert secured.password_file
    secured.password_file.write_text("another")
    assert secured.password() == "another"


def test_another_process_is_told_the_same(secured: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load(KafkaSettings, settings.as_environ(secured)) == secured
    assert secured.ca
    monkeypatch.chdir(secured.ca.parent)
    told = settings.as_environ(connection(SECURITY="SSL", CA=secured.ca.name))
    assert told["TIDEGATE_KAFKA_CA"] == str(secured.ca)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"SECURITY": "TLS"},
            "TIDEGATE_KAFKA_SECURITY='TLS' is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
        ),
        (
            {"SECURITY": "SASL_SSL"},
            "TIDEGATE_KAFKA_SECURITY=SASL_SSL needs TIDEGATE_KAFKA_USERNAME and TIDEGATE_KAFKA_PASSWORD_FILE",
        ),
        ({"CA": "/dev/null"}, "TIDEGATE_KAFKA_SECURITY=PLAINTEXT has no TLS: set SSL or SASL_SSL"),
        (
            {"SECURITY": "SSL", "KEY": "/dev/null"},
            "TIDEGATE_KAFKA_CERTIFICATE and TIDEGATE_KAFKA_KEY are set together or not at all",
        ),
        ({"SECURITY": "SSL", "CA": "/nowhere.pem"}, "TIDEGATE_KAFKA_CA=/nowhere.pem cannot be read: No such file"),
    ],
)
def test_a_connection_that_cannot_work_is_refused_by_name(changed: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        connection(**changed)
    assert problem in str(refused.value)

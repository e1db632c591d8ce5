"""A Kafka on loopback that asks for TLS and a login: SASL_SSL with SCRAM-SHA-512 and PLAIN."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local import folders, kafka, logs, ports
from schemas.kafka.connection import KafkaSettings, Mechanism, Security
from schemas.kafka.reach import connection_fault
from tests.support.certificates import Authority
from tests.support.stack import wait_until

WITHIN_S = 90.0
END_S = 15.0
ASK_S = 3.0
HEAP_MIB = 256
USER, PASSWORD = "tidegate", "correct-horse"
SCRAM = ("--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuredKafka:
    """The broker and what its clients need."""

    connection: KafkaSettings
    authority: Authority
    folder: Path

    def environ(self, **changed: str) -> dict[str, str]:
        """Return the settings of a client, with those that the test changes."""
        mine = {
            "TIDEGATE_KAFKA": self.connection.bootstrap,
            "TIDEGATE_KAFKA_SECURITY": "SASL_SSL",
            "TIDEGATE_KAFKA_USERNAME": USER,
            "TIDEGATE_KAFKA_PASSWORD_FILE": str(self.connection.password_file),
            "TIDEGATE_KAFKA_CA": str(self.connection.ca),
        }
        return {**os.environ, **mine, **changed}


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    """Start the broker, and stop it."""
    authority = Authority(folder, "authority")
    keystore, password_file = folder / "broker.keystore.pem", folder / "password"
    authority.sign("broker", host=ports.HOST).write_keystore(keystore)
    password_file.write_text(f"{PASSWORD}\n")
    chosen = ports.choose({"kafka": 0, "controller": 0}, ports.Choice.AUTO, print)
    properties, data = folder / "server.properties", folder / "data"
    properties.write_text(_properties(data, chosen, keystore))
    run = kafka.java_command(heap_mib=HEAP_MIB, cache=folders.cache(os.environ), environ=os.environ, say=print)
    kafka.format_log_folder(run, properties, cluster_id=kafka.new_cluster_id(), options=SCRAM)
    connection = KafkaSettings(
        bootstrap=f"{ports.HOST}:{chosen['kafka']}",
        security=Security.SASL_SSL,
        mechanism=Mechanism.SCRAM_SHA_512,
        username=USER,
        password_file=password_file,
        ca=authority.certificate,
    )
    log = folder / "kafka.log"
    with log.open("wb") as out:
        process = subprocess.Popen((*run, kafka.SERVER, str(properties)), stdout=out, stderr=out)
    try:

        def answers() -> bool:
            assert process.poll() is None, logs.cause(log)
            return connection_fault(connection, timeout_s=ASK_S) is None

        wait_until(answers, timeout_s=WITHIN_S, what="Kafka to answer")
        yield SecuredKafka(connection=connection, authority=authority, folder=folder)
    finally:
        process.terminate()
        process.wait(END_S)


def _properties(data: Path, chosen: dict[str, int], keystore: Path) -> str:
    text = kafka.server_properties(data=data, port=chosen["kafka"], controller_port=chosen["controller"])
    settings = dict(line.split("=", 1) for line in text.splitlines())
    login = "org.apache.kafka.common.security"
    secured = {
        "listeners": settings["listeners"].replace("PLAINTEXT://", "SASL_SSL://"),
        "advertised.listeners": settings["advertised.listeners"].replace("PLAINTEXT://", "SASL_SSL://"),
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": (
            f'{login}.plain.PlainLoginModule required username="broker" password="of the broker" '
            f'user_broker="of the broker" user_{USER}="{PASSWORD}";'
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(keystore.with_name("authority.pem")),
    }
    return "".join(f"{name}={value}\n" for name, value in (settings | secured).items())

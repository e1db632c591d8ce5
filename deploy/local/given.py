"""A stack's addresses as the environment sets them: each is used as given, or refused with the reason."""

from collections.abc import Mapping, Sequence

from deploy.errors import CommandFailed
from deploy.local import ports, services
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import SettingsInvalid, load
from schemas.process.specs import ProcessSpec

GATEWAY_PORT = "TIDEGATE_GATEWAY_PORT"
FANOUT_PORT = "TIDEGATE_FANOUT_PORT"
MANAGEMENT_PORT = "TIDEGATE_MANAGEMENT_PORT"
HOSTS = ("TIDEGATE_GATEWAY_HOST", "TIDEGATE_FANOUT_HOST", "TIDEGATE_MANAGEMENT_HOST")
PORT_MAX = 65_535


def port(environ: Mapping[str, str], name: str) -> int | None:
    """
    Return the port that the setting *name* has; None if it is not set.

    Raises:
        SettingsInvalid: it is not a port.
    """
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= PORT_MAX:
        raise SettingsInvalid(f"{name}={text!r} must be a port from 1 to {PORT_MAX}")
    return int(text)


def fixed_ports(environ: Mapping[str, str], running: Sequence[ProcessSpec]) -> dict[str, int]:
    """
    Return the ports that may not be replaced by others, by their names in `ports.choose`.

    TIDEGATE_MANAGEMENT_PORT is that of the first service: each has one, and the others count up from it.

    Raises:
        SettingsInvalid: one is not a port.
    """
    named = {"gateway": port(environ, GATEWAY_PORT), "fanout": port(environ, FANOUT_PORT)}
    if running:
        named[services.management(running[0])] = port(environ, MANAGEMENT_PORT)
    return {name: number for name, number in named.items() if number is not None}


def kafka(environ: Mapping[str, str]) -> KafkaSettings | None:
    """
    Return how to connect to the Kafka that *environ* names; None where the stack starts its own.

    Raises:
        SettingsInvalid: the connection cannot be used, or is secured where the stack starts its own Kafka.
    """
    if environ.get("TIDEGATE_KAFKA"):
        return load(KafkaSettings, environ)
    secured = [name for name in environ if name.startswith("TIDEGATE_KAFKA_") and environ[name]]
    if secured:
        raise SettingsInvalid(f"{', '.join(sorted(secured))}: only with TIDEGATE_KAFKA, a Kafka that runs already")
    return None


def hosts(environ: Mapping[str, str]) -> list[str]:
    """
    Return the addresses that the stack listens on.

    Raises:
        CommandFailed: this machine cannot listen on one of them.
    """
    named = {name: environ[name] for name in HOSTS if environ.get(name)}
    for name, host in named.items():
        if not ports.can_listen(0, host):
            raise CommandFailed(f"{name}={host}: this machine cannot listen on that address")
    return list(dict.fromkeys([ports.HOST, *named.values()]))

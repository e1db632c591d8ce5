"""Known ports where they are free, others where not."""

import socket

import pytest

from deploy.errors import CommandFailed
from deploy.local import ports
from deploy.local.ports import AUTO_FIRST, AUTO_LAST, Choice

DEFAULTS = {"gateway": 8080, "kafka": 9092, "postgres": 5432}


def test_known_ports_are_taken_silently_while_they_are_free() -> None:
    said: list[str] = []
    assert ports.choose(DEFAULTS, Choice.DEFAULT, said.append, is_free=lambda _port: True) == DEFAULTS
    assert said == []


def test_a_taken_port_is_replaced_and_said() -> None:
    said: list[str] = []
    chosen = ports.choose(DEFAULTS, Choice.DEFAULT, said.append, is_free=lambda port: port != 9092)
    assert chosen == {**DEFAULTS, "kafka": chosen["kafka"]}
    assert AUTO_FIRST <= chosen["kafka"] < AUTO_LAST
    assert said == [f"port 9092 is taken: kafka listens on {chosen['kafka']}"]


def test_auto_takes_no_known_port_and_none_twice() -> None:
    names = {str(number): number for number in range(1, 200)}
    chosen = ports.choose(names, Choice.AUTO, lambda _line: None, is_free=lambda _port: True)
    assert len(set(chosen.values())) == len(names)
    assert not set(chosen.values()) & set(names.values())


def test_a_port_that_someone_listens_on_is_not_free() -> None:
    with socket.create_server((ports.HOST, 0)) as server:
        port = server.getsockname()[1]
        assert not ports.can_listen(port)
        assert ports.is_taken(port)
    assert ports.can_listen(port)
    assert not ports.is_taken(port)


@pytest.mark.parametrize("choice", list(Choice))
def test_a_fixed_port_is_taken_as_it_is_and_by_nobody_else(choice: Choice) -> None:
    chosen = ports.choose(DEFAULTS, choice, lambda _line: None, is_free=lambda _port: True, fixed={"kafka": 8080})
    assert chosen["kafka"] == 8080
    assert len(set(chosen.values())) == len(DEFAULTS)


def test_a_fixed_port_that_is_taken_is_refused() -> None:
    with pytest.raises(CommandFailed, match="port 81, which a setting names for gateway, is taken"):
        ports.choose(DEFAULTS, Choice.AUTO, print, is_free=lambda port: port != 81, fixed={"gateway": 81})

"""What is read of a record that anyone may have written."""

from typing import cast

from confluent_kafka import Message

from schemas.kafka.clients import headers_of


class Given:
    """A message as far as its headers go; one without a list has a name that is no text."""

    def __init__(self, headers: list[tuple[str, bytes | None]] | None) -> None:
        self._headers = headers

    def headers(self) -> list[tuple[str, bytes | None]]:
        if self._headers is None:
            b"\xff".decode()
        return self._headers or []


def test_headers_whose_names_are_no_text_are_none() -> None:
    assert headers_of(cast("Message", Given([("seq", b"7"), ("x", None)]))) == [("seq", b"7"), ("x", None)]
    assert headers_of(cast("Message", Given(None))) == []

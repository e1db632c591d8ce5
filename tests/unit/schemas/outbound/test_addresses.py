"""Which addresses are internal, however they are written."""

import socket

import pytest

from schemas.outbound.addresses import is_internal, url_fault

INTERNAL = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "192.88.99.1", "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:0:0",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:db8::1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0",
    "fec0::1", "ff02::1", "ff0e::1", "::127.0.0.1", "", "localhost", "example.org",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808"]
# As getaddrinfo reads them, which is what a connector is handed.
DISGUISED = ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::ffff:7f00:1]"]


@pytest.mark.parametrize("address", INTERNAL)
def test_an_internal_address_is_told(address: str) -> None:
    assert is_internal(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_none(address: str) -> None:
    assert not is_internal(address)


@pytest.mark.parametrize("host", DISGUISED)
def test_a_disguised_address_is_told_once_it_is_resolved(host: str) -> None:
    for *_, place in socket.getaddrinfo(host.strip("[]"), 443, type=socket.SOCK_STREAM):
        assert is_internal(str(place[0]))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "https://example.org:22/",
        "https://example.org:99999/",
        "https://user:pass@example.org/",
        "https://user@example.org/",
        "https:///path",
        "https://",
        "https://exa mple.org/",
        "https://example.org/\r\nX: y",
        "https://ex\u00e4mple.org/",
        "",
        "https://[::1",
        "https://example.org/" + "a" * 2048,
    ],
)
def test_a_url_that_may_not_be_sent_to_is_refused(url: str) -> None:
    assert url_fault(url, internal_allowed=False)


@pytest.mark.parametrize("url", ["https://example.org/hook?a=b", "https://example.org:8443/"])
def test_a_public_url_over_tls_is_allowed(url: str) -> None:
    assert url_fault(url, internal_allowed=False) is None


def test_with_internal_addresses_any_port_is_allowed_and_credentials_are_not() -> None:
    assert url_fault("http://127.0.0.1:9999/", internal_allowed=True) is None
    assert url_fault("http://user@127.0.0.1/", internal_allowed=True)

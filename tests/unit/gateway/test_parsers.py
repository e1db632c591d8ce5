"""Parsers of what strangers send: any input is a value or a named refusal, and what is written is read back."""

import base64
import contextlib
import tracemalloc
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.app import ROUTES
from gateway.errors import BadQuery, MethodNotAllowed, NotFound, UnsupportedCoding, UnsupportedMediaType
from gateway.http import lists, paging
from gateway.http.access import authenticate
from gateway.http.bodies import MediaType, media_type_of
from gateway.http.codings import Coding, coding_of
from gateway.http.router import Router
from gateway.http.trace import trace_id_of, traceparent_of
from gateway.runs import parameters
from gateway.runs.parsing.bodies import (
    BATCH_EVENTS_MAX,
    parse_environment,
    parse_event,
    parse_finalization,
)
from gateway.runs.store import RunPlace
from gateway.tokens.verifier import TokenVerifier
from schemas.access.credentials import KeyRefused
from schemas.errors import Invalid
from schemas.process.telemetry import OF_GATEWAY, Telemetry
from schemas.strictjson import NotJson
from tests.support import builders
from tests.support.fakes import InForce, MemoryJwks

split_list = partial(lists.split_list, count_max=BATCH_EVENTS_MAX)
split_lines = partial(lists.split_lines, count_max=BATCH_EVENTS_MAX)
_split_long_list = partial(lists._split_long_list, count_max=BATCH_EVENTS_MAX)

# Texts near JSON find more than texts at random.
PIECES = ["{", "}", "[", "]", ",", ":", '"', '"a"', '"seq"', '"meta"', "1", "-", "0", "1e5", "null", "true", " ", "\n"]
PIECES += ["\\", "\\u0000", "\\ud800", "\0", "\ufeff", "NaN", "\u2028", "9" * 30, '"run_id":"run-1"', "[{},{}]"]
NEAR_JSON = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
BYTES = st.one_of(st.binary(max_size=200), NEAR_JSON.map(str.encode))
ROUTER = Router(ROUTES)
ENCODED = ["%2F", "x%2fevents", "%61pi", "%2e%2e", "%252F", "%00", "%zz", "%", "%ff", "x;y", "events%2Fbatch"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(BYTES)
@example(b"[" * 5000)
@example(b'{"a":' * 5000)
@example(b"[1e300]")
@example(b"\xff")
def test_any_bytes_are_a_document_or_a_named_refusal(body: bytes) -> None:
    for parse in (
        lambda text: parse_event(text, run_id=builders.RUN),
        parse_finalization,
        parse_environment,
        split_list,
    ):
        with contextlib.suppress(NotJson, Invalid):
            parse(body)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_a_list_is_split_into_the_texts_of_its_elements(elements: list[object]) -> None:
    texts = [msgspec.json.encode(element) for element in elements]
    assert split_list(b" [%b ] " % b" ,\n".join(texts)) == texts
    assert split_lines(b"\n\n".join(texts)) == texts
    assert _split_long_list(" [{} ] ".format(" ,\n".join(text.decode() for text in texts))) == texts


@given(BYTES.filter(lambda body: body.isascii()), st.sampled_from([b"%b", b"[%b", b"[1,%b]", b"[%b]", b"[1]%b"]))
def test_a_long_list_is_one_where_a_short_one_is(body: bytes, form: bytes) -> None:
    """But for what is no JSON within an element: whoever judges the element says so."""
    text = form % body
    try:
        split = split_list(text)
    except (NotJson, Invalid):
        with contextlib.suppress(NotJson, Invalid):
            assert all(element.strip() for element in _split_long_list(text.decode()))
    else:
        assert _split_long_list(text.decode()) == split


@pytest.mark.parametrize("body", [b"[" + b"1," * 2**21 + b"1]", b"[" + b"[]," * 2**19 + b"[]]", b"\n" * 2**21])
def test_a_batch_of_a_million_things_is_refused_before_it_is_held(body: bytes) -> None:
    split = split_list if body.startswith(b"[") else split_lines
    tracemalloc.start()
    try:
        with pytest.raises(Invalid):
            split(body)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * len(body)


@given(st.binary(max_size=300))
def test_lines_are_bounded_and_nothing_of_them_is_lost(body: bytes) -> None:
    try:
        lines = split_lines(body)
    except Invalid:
        assert not body.strip() or body.count(b"\n") >= BATCH_EVENTS_MAX
    else:
        assert b"".join(b"".join(lines).split()) == b"".join(body.split())


@given(st.lists(st.text(max_size=20), max_size=3), st.text(max_size=60))
@example([], 'application/json;charset="utf-8"')
def test_any_header_names_a_format_or_is_refused(fields: list[str], content_type: str) -> None:
    with contextlib.suppress(UnsupportedMediaType):
        assert media_type_of(content_type, tuple(MediaType)) in MediaType
    with contextlib.suppress(UnsupportedCoding):
        assert coding_of(fields) in (None, *Coding)


@given(st.text(max_size=100))
@example("00-" + "0" * 32 + "-00f067aa0ba902b7-01")
@example("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n")
def test_any_trace_context_yields_an_id_that_may_be_shown(given_text: str) -> None:
    traceparent = traceparent_of(given_text)
    assert msgspec.json.decode(b'"%b"' % trace_id_of(traceparent).encode()).isalnum()
    assert len(traceparent) == 55


@given(st.text(max_size=100), st.sampled_from(["X-API-Key", "Authorization"]))
@example("tg__", "X-API-Key")
@example("Bearer tg_\ud800_\0", "Authorization")
def test_no_text_is_a_key(text: str, header: str) -> None:
    with pytest.raises(KeyRefused):
        authenticate(
            CIMultiDictProxy(CIMultiDict({header: text})),
            InForce(builders.credentials()),
            TokenVerifier(MemoryJwks(), Telemetry(OF_GATEWAY)),
            now=datetime(2026, 1, 1, tzinfo=UTC),
        )


@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(
            st.sampled_from(["api", "runs", "wal", "subjects", "", ".", "..", "{run_id}", "events", "x", *ENCODED]),
            max_size=7,
        ).map("/".join),
    ),
    st.sampled_from(["GET", "POST", "BREW"]),
)
@example("", "GET")
def test_any_path_is_a_route_or_is_not_there(path: str, method: str) -> None:
    """Segments are those that were sent; what they name comes out as it went in, decoded once."""
    try:
        route, names = ROUTER.find(method, f"/{path}")
    except (NotFound, MethodNotAllowed):
        return
    sent, parts, left = path.removesuffix("/").split("/"), route.path[1:].split("/"), list(names)
    assert [left.pop(0) if part.startswith("{") else part for part in parts] == [unquote(each) for each in sent]
    assert not left


QUERY_VALUES = st.one_of(
    st.text(max_size=60),
    st.text("0123456789-+.:TZ", max_size=30),
    BYTES.map(lambda text: base64.urlsafe_b64encode(text).decode()),
)


@given(QUERY_VALUES)
@example(base64.b64encode(b'["0001-01-01T00:00:00+23:59","r"]').decode())
@example(base64.b64encode(b"[9223372036854775808]").decode())
@example(base64.b64encode(b"[" * 3000).decode())
@example("\u0661")
@example("\ud800")
def test_any_query_is_read_or_is_a_bad_one(text: str) -> None:
    reads = [
        (paging.read_limit, "limit"), (parameters.read_agent, "agent"), (parameters.read_status, "status"),
        (parameters.read_run_cursor, "cursor"), (parameters.read_seq_cursor, "cursor"),
        (lambda query: paging.read_word(query, "type"), "type"),
        (lambda query: paging.read_time(query, "from"), "from"),
    ]  # fmt: skip
    for read, name in reads:
        with contextlib.suppress(BadQuery):
            read({name: text})


@given(
    st.integers(0, 2**63 - 1),
    st.datetimes(timezones=st.just(UTC)),
    st.from_regex(r"[A-Za-z0-9_:-]{1,128}", fullmatch=True),
)
def test_a_cursor_leads_back_to_its_place(seq: int, started_at: datetime, run_id: str) -> None:
    assert parameters.read_seq_cursor({"cursor": parameters.seq_cursor(seq)}) == seq
    last = SimpleNamespace(started_at=started_at, run_id=run_id)
    assert parameters.read_run_cursor({"cursor": parameters.run_cursor(last)}) == RunPlace(started_at, run_id)

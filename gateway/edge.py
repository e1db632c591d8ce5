"""What every request passes, before and after its handler: route, size, key; metrics, and the problem document."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import structlog
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from multidict import istr

from gateway.body import too_large
from gateway.connections import UNMATCHED
from gateway.context import NOBODY, Call, Parts
from gateway.errors import ClientGone, Malformed, problem_of
from gateway.intake.access import authenticate, require
from gateway.intake.bodies import names_toon
from gateway.intake.records import Stamp
from gateway.parameters import check_names
from gateway.problems import problem_response
from gateway.route import Route
from gateway.router import Router
from gateway.trace import trace_id_of, traceparent_of
from schemas.errors import ErrorCode
from schemas.process.telemetry import EVENTS_REFUSED, HTTP_DURATION, HTTP_REQUESTS, Telemetry

CLIENT_GONE = 499  # counted, never sent: nginx's number for a client that closed before its request was whole

_KEEP_ALIVE = istr("Keep-Alive")  # prepared, as aiohttp's own names are: each answer has it
_VERSIONS = (HttpVersion11, HttpVersion10)

log = structlog.get_logger()


class Edge:
    """The function that aiohttp's server calls for each request."""

    def __init__(self, routes: Sequence[Route], parts: Parts) -> None:
        """Serve *routes*, and HEAD wherever they have GET."""
        heads = [dataclasses.replace(route, method="HEAD") for route in routes if route.method == "GET"]
        routes = [*routes, *heads]
        self._router = Router(routes)
        self._parts = parts
        self._instruments = {route: _Instruments(parts.telemetry, route.method, route.path) for route in routes}
        self._unmatched = _Instruments(parts.telemetry, "", UNMATCHED)
        idle_s = int(parts.deadlines.idle_s)
        self._keep_alive = f"timeout={idle_s}" if idle_s else None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer *request*, whatever comes."""
        started_s = time.perf_counter()
        traceparent = traceparent_of(request.headers.get("traceparent"))
        instruments = self._unmatched
        try:
            _check_form(request)
            route, names = self._router.find(request.method, request.rel_url.raw_path)
            instruments = self._instruments[route]
            response = await route.handler(self._admit(request, route, names, traceparent))
        except ClientGone:
            instruments.record(CLIENT_GONE, started_s)
            raise
        except Exception as error:  # noqa: BLE001  # the one place where errors turn into answers
            response = self._refuse(request, error, trace_id_of(traceparent))
        if "Upgrade" in request.headers or not self._parts.readiness.accepting or self._keep_alive is None:
            # No upgrade is made, and aiohttp would not read on after some.
            response.force_close()
        elif request.keep_alive and response.keep_alive is None:
            response.headers[hdrs.CONNECTION] = "keep-alive"  # a hop's own header is named in it (RFC 9110, 7.6.1)
            response.headers[_KEEP_ALIVE] = self._keep_alive
        instruments.record(response.status, started_s)
        return response

    def _admit(self, request: web.BaseRequest, route: Route, names: Sequence[str], traceparent: str) -> Call:
        bytes_max = route.body.bytes_max if route.body is not None else 0
        if (request.content_length or 0) > bytes_max:
            raise too_large(bytes_max)
        now, principal = self._parts.clock(), NOBODY
        if route.right is not None:
            self._parts.throttle.charge_address(request.remote or "")  # before any secret is compared
            principal, credentials = authenticate(request.headers, self._parts.credentials, now=now)
            self._parts.throttle.charge_key(principal.key_id)
            require(principal, route.right)
        else:
            credentials = self._parts.credentials()
        if request.rel_url.raw_query_string and not route.ignores_query:
            check_names(request.query, [parameter.name for parameter in route.query])
        return Call(
            request=request,
            parts=self._parts,
            run_id=names[0] if names else "",
            names=names,
            principal=principal,
            credentials=credentials,
            stamp=Stamp(received_at=now, traceparent=traceparent, mac_secret=credentials.gateway.mac_secrets[0]),
            body_bytes_max=bytes_max,
        )

    def _refuse(self, request: web.BaseRequest, error: Exception, trace_id: str) -> web.Response:
        problem = problem_of(error, of_toon=names_toon(request.headers.get("Content-Type", "")))
        if problem.code is ErrorCode.INTERNAL_ERROR:
            path = request.rel_url.raw_path
            log.error("request failed", trace_id=trace_id, method=request.method, path=path, exc_info=error)
        if request.method in ("POST", "PUT"):
            self._parts.telemetry[EVENTS_REFUSED].labels(problem.code.value).inc()
        response = problem_response(problem, instance=request.rel_url.raw_path, trace_id=trace_id)
        if isinstance(error, Malformed):
            response.force_close()
        return response


def _check_form(request: web.BaseRequest) -> None:
    """Raise Malformed for what aiohttp lets pass, though others may read it otherwise."""
    if request.version not in _VERSIONS:
        raise Malformed("only HTTP/1.0 and HTTP/1.1 are supported")
    if request.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise Malformed("Transfer-Encoding must be chunked, and nothing else")


class _Instruments:
    """The metrics of one route, looked up once."""

    def __init__(self, telemetry: Telemetry, method: str, pattern: str) -> None:
        self._requests = telemetry[HTTP_REQUESTS]
        self._labels = (method, pattern)
        self._duration = telemetry[HTTP_DURATION].labels(method, pattern)
        self._by_status: dict[int, Any] = {}

    def record(self, status: int, started_s: float) -> None:
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._requests.labels(*self._labels, str(status))
        counter.inc()
        self._duration.observe(time.perf_counter() - started_s)

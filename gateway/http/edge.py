"""The steps of every request before and after its handler: route, size, key, metrics and problem documents."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import structlog
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from multidict import istr

from gateway.errors import ClientGone, Malformed, problem_of
from gateway.http.access import anyone, authenticate, require, shows_key
from gateway.http.bodies import names_toon
from gateway.http.body import too_large
from gateway.http.budget import BodyBudget
from gateway.http.call import NOBODY, BodyLimits, Call
from gateway.http.connections import UNMATCHED
from gateway.http.feature import Feature, Shared
from gateway.http.origins import Origins
from gateway.http.parameters import check_names
from gateway.http.problems import problem_response
from gateway.http.router import Router
from gateway.http.routes import Route
from gateway.http.trace import trace_id_of, traceparent_of
from gateway.kafka.records import Stamp
from schemas.errors import ErrorCode
from schemas.process.telemetry import EVENTS_REFUSED, HTTP_DURATION, HTTP_REQUESTS, Telemetry

CLIENT_GONE = 499  # counted, never sent: nginx's number for a client that closed before its request was whole

_KEEP_ALIVE = istr("Keep-Alive")  # prepared, as aiohttp's own names are: each answer has it
_VERSIONS = (HttpVersion11, HttpVersion10)

log = structlog.get_logger()


class Edge:
    """The function that aiohttp's server calls for each request."""

    def __init__(self, features: Sequence[Feature[Any]], shared: Shared) -> None:
        """Serve the routes of *features*, and HEAD wherever they have GET."""
        self._shared = shared
        budget = BodyBudget()
        self._served: dict[Route[Any], _Served] = {}
        for feature in features:
            for route in feature.routes:
                self._served[route] = _Served(route, feature.parts, shared, budget)
                if route.method == "GET":
                    head = dataclasses.replace(route, method="HEAD")
                    self._served[head] = _Served(head, feature.parts, shared, budget)
        self._router = Router(list(self._served))
        self._origins = Origins(shared.origins, self._router)
        self._unmatched = _Instruments(shared.telemetry, "", UNMATCHED)
        idle_s = int(shared.deadlines.idle_s)
        self._keep_alive = f"timeout={idle_s}" if idle_s else None

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer *request*, whatever comes."""
        started_s = time.perf_counter()
        traceparent = traceparent_of(request.headers.get("traceparent"))
        instruments, route = self._unmatched, None
        try:
            _check_form(request)
            if (preflight := self._origins.preflight(request)) is not None:
                response: web.StreamResponse = preflight
            else:
                route, names = self._router.find(request.method, request.rel_url.raw_path)
                served = self._served[route]
                instruments = served.instruments
                response = await route.handler(served.parts, self._admit(request, served, names, traceparent))
        except ClientGone:
            instruments.record(CLIENT_GONE, started_s)
            raise
        except Exception as error:  # noqa: BLE001  # the one place where errors turn into answers
            response = self._refuse(request, route, error, trace_id_of(traceparent))
        if route is not None and route.is_for_users:
            self._origins.show_to_page(request, response)
        if "Upgrade" in request.headers or not self._shared.readiness.accepting or self._keep_alive is None:
            # No upgrade is made, and aiohttp would not read on after some.
            response.force_close()
        elif request.keep_alive and response.keep_alive is None:
            response.headers[hdrs.CONNECTION] = "keep-alive"  # a hop's own header is named in it (RFC 9110, 7.6.1)
            response.headers[_KEEP_ALIVE] = self._keep_alive
        instruments.record(response.status, started_s)
        return response

    def _admit(self, request: web.BaseRequest, served: "_Served", names: Sequence[str], traceparent: str) -> Call:
        route, shared = served.route, self._shared
        if (request.content_length or 0) > served.body.bytes_max:
            raise too_large(served.body.bytes_max)
        now, principal = shared.clock(), NOBODY
        if route.right is not None:
            shared.throttle.charge_address(request.remote or "")  # before any secret is compared
            if route.takes_anyone and shared.tenant_of_anyone is not None and not shows_key(request.headers):
                principal, credentials = anyone(shared.tenant_of_anyone), shared.credentials()
            else:
                principal, credentials = authenticate(
                    request.headers, shared.credentials, shared.tokens, now=now, takes_basic=route.takes_basic
                )
            shared.throttle.charge_key(principal.name)
            require(principal, route.right, takes_tokens=route.takes_tokens)
        else:
            credentials = shared.credentials()
        if request.rel_url.raw_query_string and not route.ignores_query:
            check_names(request.query, [parameter.name for parameter in route.query])
        return Call(
            request=request,
            path=dict(zip(served.names, names, strict=True)),
            principal=principal,
            credentials=credentials,
            stamp=Stamp(received_at=now, traceparent=traceparent, mac_secret=credentials.gateway.mac_secrets[0]),
            body=served.body,
        )

    def _refuse(
        self, request: web.BaseRequest, route: Route[Any] | None, error: Exception, trace_id: str
    ) -> web.Response:
        problem = problem_of(error, of_toon=names_toon(request.headers.get("Content-Type", "")))
        if problem.code is ErrorCode.INTERNAL_ERROR:
            path = request.rel_url.raw_path
            log.error("request failed", trace_id=trace_id, method=request.method, path=path, exc_info=error)
        if request.method in ("POST", "PUT"):
            self._shared.telemetry[EVENTS_REFUSED].labels(problem.code.value).inc()
        if route is not None and route.dialect is not None:
            problem = route.dialect(problem)
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


class _Served:
    """A route with what is the same for each of its requests."""

    __slots__ = ("body", "instruments", "names", "parts", "route")

    def __init__(self, route: Route[Any], parts: Any, shared: Shared, budget: BodyBudget) -> None:
        self.route = route
        self.parts = parts
        self.names = route.names
        bytes_max = 0 if route.body is None else route.body.bytes_max
        self.body = BodyLimits(bytes_max=bytes_max, deadline_s=shared.deadlines.body_s, budget=budget)
        self.instruments = _Instruments(shared.telemetry, route.method, route.path)


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

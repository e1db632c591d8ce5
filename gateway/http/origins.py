"""
Cross-origin requests of web pages (the CORS protocol of the Fetch standard): the origins that may make them.

Only routes that users call are open to pages; without origins nothing is. No cookies are involved: a page shows its
user's token itself.
"""

from collections.abc import Sequence

from aiohttp import hdrs, web

from gateway.http.router import Router

PREFLIGHT_AGE_S = 600
REQUEST_HEADERS = "Authorization, Content-Type, Content-Encoding, X-API-Key, traceparent"
RESPONSE_HEADERS = "Retry-After, RateLimit, RateLimit-Policy, Link"


class Origins:
    """The origins whose pages may call the routes of users."""

    def __init__(self, origins: Sequence[str], router: Router) -> None:
        """Let pages of *origins* call the routes that *router* finds."""
        self._origins = frozenset(origins)
        self._router = router

    def preflight(self, request: web.BaseRequest) -> web.Response | None:
        """
        Return the response to a browser's question whether a request may be made; None if *request* is another one.

        Raises:
            NotFound, MethodNotAllowed: no route is meant.
        """
        wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
        if not self._origins or request.method != hdrs.METH_OPTIONS or wanted is None:
            return None
        route, _ = self._router.find(wanted, request.rel_url.raw_path)
        response = web.Response(status=204)
        if route.is_for_users and self._is_known(request):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = route.method
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = REQUEST_HEADERS
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(PREFLIGHT_AGE_S)
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request.headers[hdrs.ORIGIN]
        response.headers[hdrs.VARY] = hdrs.ORIGIN
        return response

    def show_to_page(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Let the page that made *request* to a route of users read *response*."""
        if not self._origins:
            return
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)  # caches must not show it to pages of other origins
        if self._is_known(request):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request.headers[hdrs.ORIGIN]
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = RESPONSE_HEADERS

    def _is_known(self, request: web.BaseRequest) -> bool:
        named = request.headers.getall(hdrs.ORIGIN, ())
        return len(named) == 1 and named[0] in self._origins

"""
Paths to routes.

Why not aiohttp's: its Application with router and middleware costs a fifth of a request that does nothing, and
a table of routes is all that is needed of it.

The path is split as it was sent, and each segment is percent-decoded after that, once (RFC 3986, 2.4): a slash that
was sent as %2F is part of a name and never separates segments.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from gateway.errors import MethodNotAllowed, NotFound
from gateway.http.routes import Route

_NAMED = None  # the key of the branch for any name; no segment is that


class Router:
    """A tree of path segments; one trailing slash is ignored."""

    def __init__(self, routes: Sequence[Route[Any]]) -> None:
        """Index *routes*."""
        self._root: dict[str | None, Any] = {}
        for route in routes:
            node = self._root
            for segment in route.path[1:].split("/"):
                node = node.setdefault(_NAMED if segment.startswith("{") else segment, {})
            node.setdefault("", {})[route.method] = route  # no segment is empty

    def find(self, method: str, raw_path: str) -> tuple[Route[Any], Sequence[str]]:
        """
        Return the route of *raw_path*, which is still percent-encoded, and the names in it, decoded and in order.

        Raises:
            NotFound: no route has this path.
            MethodNotAllowed: none of them has this method.
        """
        node = self._root
        names: list[str] = []
        segments = raw_path.removesuffix("/")[1:].split("/")
        if "%" in raw_path:
            # Bytes that are no UTF-8 become U+FFFD, and a % without two digits stays: neither is in any name of ours.
            segments = [unquote(segment) for segment in segments]
        for segment in segments:
            if segment in node and segment:
                node = node[segment]
            elif _NAMED in node and segment:
                node = node[_NAMED]
                names.append(segment)
            else:
                raise NotFound("no such path")
        methods: dict[str, Route[Any]] = node.get("", {})
        if method in methods:
            return methods[method], names
        if methods:
            raise MethodNotAllowed(sorted(methods))
        raise NotFound("no such path")

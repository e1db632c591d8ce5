"""
Paths to routes.

Why not aiohttp's: its Application with router and middleware costs a fifth of a request that does nothing, and
the table in `routes.py` is all that is needed of it.
"""

from collections.abc import Sequence
from typing import Any

from gateway.errors import MethodNotAllowed, NotFound
from gateway.routes import Route

_NAMED = "/"  # no segment is that


class Router:
    """A tree of path segments; one trailing slash is ignored."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Index *routes*."""
        self._root: dict[str, Any] = {}
        for route in routes:
            node = self._root
            for segment in route.path[1:].split("/"):
                node = node.setdefault(_NAMED if segment.startswith("{") else segment, {})
            node.setdefault("", {})[route.method] = route  # no segment is empty

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """
        Return the route, and what the path names, joined as it stands there: a run_id, a wal_id, or nothing ("").

        Raises:
            NotFound: no route has this path.
            MethodNotAllowed: none of them has this method.
        """
        node = self._root
        named: list[str] = []
        for segment in path.removesuffix("/")[1:].split("/"):
            if segment in node and segment:
                node = node[segment]
            elif _NAMED in node and segment:
                node = node[_NAMED]
                named.append(segment)
            else:
                raise NotFound("no such path")
        methods: dict[str, Route] = node.get("", {})
        if method in methods:
            return methods[method], "/".join(named)
        if methods:
            raise MethodNotAllowed(sorted(methods))
        raise NotFound("no such path")

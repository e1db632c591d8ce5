"""An issuer of tokens for a running stack: it serves its keys over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import time
from typing import Any

import msgspec

from deploy.admin import credentials as credentials_file
from deploy.local.development import CREDENTIALS, TENANT
from tests.support import tokens
from tests.support.stack import RunningStack


@dataclass(slots=True)
class KeySet:
    """The text that is served, and how often it was read."""

    text: str
    reads: int = 0

    def change(self, *keys: Any) -> None:
        """Serve the public halves of *keys* from now on."""
        self.text = tokens.jwks(*keys)


@contextmanager
def issuing(stack: RunningStack, *keys: Any) -> Iterator[KeySet]:
    """Serve the JWK Set of *keys*, and let the stack know its issuer."""
    served = KeySet(tokens.jwks(*keys))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.reads += 1
            body = served.text.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    path = stack.folder / CREDENTIALS
    issuer = tokens.of_address(f"http://127.0.0.1:{server.server_port}/keys", tenant=TENANT)
    before = credentials_file.read(path)
    credentials_file.change(path, lambda found: msgspec.structs.replace(found, issuers={"test": issuer}))
    try:
        yield served
    finally:
        credentials_file.change(path, lambda found: msgspec.structs.replace(found, issuers=before.issuers))
        server.shutdown()
        server.server_close()


def bearer(key: Any, user: str, *, kid: str | None = None) -> dict[str, str]:
    """Return the header with a token of *user*, signed with *key*; it names *kid*, or the key's own."""
    now_s = int(time())
    named = kid or key.as_dict(private=False)["kid"]
    text = tokens.token(key, algorithm="RS256", header={"kid": named}, sub=user, exp=now_s + 600, iat=now_s)
    return {"Authorization": f"Bearer {text}"}

"""An S3 server for tests, in a thread, with one bucket."""

import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from moto.server import ThreadedMotoServer

BUCKET = "tidegate"


@contextmanager
def s3_server() -> Iterator[int]:
    """Serve; the port is given."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    try:
        # Servers of one process share what they hold.
        _ask(f"http://127.0.0.1:{port}/moto-api/reset", "POST")
        _ask(f"http://127.0.0.1:{port}/{BUCKET}", "PUT")
        yield port
    finally:
        server.stop()
        assert server._server is not None
        server._server.server_close()  # which it leaves to the garbage collector


def _ask(url: str, method: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, method=method)):
        pass


def aws(port: int) -> Mapping[str, str]:
    """Return what an operator tells a process of S3 on *port*."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }

"""A folder of a stack that does not run, the command on it, and a gateway that answers what a test tells it to."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.cli.app import build
from deploy.local import development

NOW = datetime(2026, 1, 1, tzinfo=UTC)

Command = Callable[..., str]


def problem(status: int, code: str, detail: str, *faults: tuple[str, str]) -> tuple[int, dict[str, Any]]:
    errors = [{"pointer": pointer, "detail": text} for pointer, text in faults]
    return status, {"code": code, "detail": detail, "errors": errors}


class Gateway:
    """A gateway that keeps what it is sent and answers by method and path; the last answer of a list is repeated."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, Any, Mapping[str, str]]] = []
        self._lock = Lock()

    def answer(self, asked: str, *documents: Any) -> None:
        self.answers[asked] = [each if isinstance(each, tuple) else (200, each) for each in documents]

    def take(self, asked: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
        with self._lock:
            self.asked.append((asked, body, headers))
            found = self.answers[asked.partition("?")[0]]
            return found.pop(0) if len(found) > 1 else found[0]

    def sent(self, asked: str) -> list[Any]:
        """Return the bodies of requests."""
        return [body for path, body, _ in self.asked if path == asked]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the credentials of a stack that does not run; no setting names another."""
    for name in [name for name in os.environ if name.startswith("TIDEGATE_")]:
        monkeypatch.delenv(name)
    development.prepare(tmp_path, logins=[], now=NOW)
    return tmp_path


@pytest.fixture
def command(folder: Path) -> Command:
    """Return a function that runs the command on the folder, returns what it printed and raises what it raised."""

    def run(*arguments: str, answer: str | bytes | None = None) -> str:
        done = CliRunner().invoke(build(), [*arguments, "--dir", str(folder)], input=answer, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


@pytest.fixture
def gateway(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """Yield a gateway that commands call, whatever the folder."""
    assert folder
    found = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            length = int(self.headers.get("Content-Length", 0))
            content = self.rfile.read(length)
            is_json = self.headers.get_content_type() == "application/json"
            body = json.loads(content) if length and is_json else content or None
            status, document = found.take(f"{self.command} {self.path}", body, dict(self.headers.items()))
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("TIDEGATE_GATEWAY", found.url)
    monkeypatch.setenv("TIDEGATE_API_KEY", "tg_key")
    yield found
    server.shutdown()
    thread.join()
    server.server_close()

"""`tidegate sign`: events signed as their agent must, for programs and shells that cannot."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import print_json
from deploy.errors import CommandFailed
from schemas import strictjson
from schemas.errors import Invalid
from schemas.runs.rules import event_faults
from schemas.runs.signature import sign_event

STANDARD = "-"
INPUT_BYTES_MAX = 20 * 1024 * 1024  # as much as a batch may have


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sign")(sign)


def sign(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="An event as JSON, or one on each line; - is stdin.")
    ] = Path(STANDARD),
    *,
    agent: Annotated[
        str | None, typer.Option(help="Whose secret; by default that of meta.agent_id, else the stack's agent.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="The agent's tenant; may be left out where one tenant has that agent.")
    ] = None,
    curl: Annotated[bool, typer.Option("--curl", help="Print the curl commands that send them.")] = False,
    folder: Dir = DEFAULT_DIR,
    as_json: Json = False,
) -> None:
    """
    Sign events and print them, one on each line; the signature covers everything but itself.

    The secret is TIDEGATE_AGENT_SECRET, or the agent's in the credentials file. Commands of --curl use the variables
    that `tidegate env` sets.
    """
    known = addresses.read(folder, os.environ)
    signed = [
        _signed(event, agent=agent or known.agent_id, chosen=agent is not None, tenant=tenant, known=known)
        for event in _events(file)
    ]
    if as_json:
        print_json([_curl(event) for event in signed] if curl else signed)
        return
    for event in signed:
        print(_curl(event) if curl else _text(event))


def _events(file: Path) -> Sequence[dict[str, Any]]:
    text = _read(file)
    try:
        documents = [strictjson.decode(text)]
    except (Invalid, strictjson.NotJson) as whole:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) <= 1:
            raise CommandFailed(f"{file}: not a JSON event: {whole}") from whole
        documents = []
        for number, line in enumerate(lines, 1):
            try:
                documents.append(strictjson.decode(line))
            except (Invalid, strictjson.NotJson) as error:
                raise CommandFailed(
                    f"{file}: neither one JSON event nor one on each line: line {number}: {error}"
                ) from error
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("meta"), dict):
            raise CommandFailed(f"{file}: an event is a JSON object with seq, t, actor, type, payload and meta")
    return documents  # type: ignore[return-value]  # checked above


def _read(file: Path) -> str:
    try:
        if str(file) == STANDARD:
            content = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
        else:
            with file.open("rb") as stream:
                content = stream.read(INPUT_BYTES_MAX + 1)
        if len(content) > INPUT_BYTES_MAX:
            raise CommandFailed(f"{file}: more than {INPUT_BYTES_MAX} bytes; split it")
        return content.decode()
    except OSError as error:
        raise CommandFailed(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{file}: not UTF-8 at byte {error.start}") from error


def _signed(
    event: dict[str, Any], *, agent: str | None, chosen: bool, tenant: str | None, known: addresses.Addresses
) -> dict[str, Any]:
    meta = {name: value for name, value in event["meta"].items() if name != "signature"}
    if chosen or "agent_id" not in meta:
        meta["agent_id"] = agent
    unsigned = event | {"meta": meta}
    run_id = meta.get("run_id")
    if faults := event_faults(unsigned, run_id=run_id if isinstance(run_id, str) else ""):
        raise CommandFailed(
            "not a valid event: " + "; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults)
        )
    secret = addresses.agent_secret(known, os.environ, str(meta["agent_id"]), tenant=tenant)
    return unsigned | {"meta": meta | {"signature": sign_event(unsigned, secret)}}


def _text(event: dict[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _curl(event: dict[str, Any]) -> str:
    url = f'"$GATEWAY/api/runs/{event["meta"]["run_id"]}/events/"'
    headers = "-H \"X-API-Key: $KEY\" -H 'Content-Type: application/json'"
    return f"curl -i {url} {headers} --data-binary {shlex.quote(_text(event))}"

"""`tidegate run show|export|verify`: one run, for a person, as a file, and that file proved."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from deploy.admin.gateway import GatewayReads
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, plain, print_json, progress_bar, table
from deploy.cli.run_rows import environment_rows, run_rows
from deploy.errors import CommandFailed
from deploy.export.files import STANDARD, opened, written
from deploy.export.gateway import Gateway
from deploy.export.verify import VerificationFailed, VerificationResult, verify
from deploy.export.write import export
from schemas.process.secret_files import read_text

RunId = Annotated[str, typer.Argument(metavar="ID", help="The run.")]
VERIFY_HELP = """\
Prove that an export is complete and unaltered, offline, or name the first fault.

A file is proved against itself: whoever rewrites the whole of it can make all its digests fit. Give --head with a chain
head that you got elsewhere (`tidegate run show`, /trace, the topic run.traces), or the agents' secrets, to prove it
against what such a person does not have.
"""


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="One run: shown, exported, and an export verified.")
    group.command("show")(show)
    group.command("export")(export_run)
    group.command("verify", help=VERIFY_HELP)(verify_file)
    app.add_typer(group, name="run")


def show(run_id: RunId, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Show a run: its state, its counts, whether it is whole, and what it ran in."""
    gateway = _gateway(folder)
    run = gateway.run(run_id)
    integrity = msgspec.json.decode(gateway.need(run_id, "/integrity"))
    environment = _document(gateway.read(run_id, "/environment"))
    trace = _document(gateway.read(run_id, "/trace"))
    if as_json:
        shown = {"run": msgspec.to_builtins(run), "integrity": integrity, "environment": environment, "trace": trace}
        print_json(shown)
        return
    console.print(table(("run", run_id), run_rows(run, integrity, trace)))
    if environment is not None:
        console.print(table(("environment", ""), environment_rows(environment["environment"])))


def export_run(
    run_id: RunId,
    folder: Dir = DEFAULT_DIR,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; - is stdout. Default: ID.jsonl.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """
    Write a run to a file that proves itself: events as they were sent, digests, hash chain, trace record.

    The file is there when it is whole, or not at all; what goes to stdout and breaks off lacks its last line.
    """
    gateway, path = _gateway(folder), out or Path(f"{run_id}.jsonl")
    to_stdout = str(path) == STANDARD
    expected = gateway.run(run_id).event_count + 2
    lines = size_bytes = 0
    shown = not as_json and not to_stdout
    with written(path) as file, progress_bar(shown=shown) as progress:
        bar = progress.add_task(f"export {run_id}", total=expected)
        for line in export(gateway, run_id, now=datetime.now(UTC)):
            file.write(line)
            lines, size_bytes = lines + 1, size_bytes + len(line)
            progress.update(bar, completed=lines, total=max(expected, lines))
    if to_stdout:
        return
    said = {"file": str(path), "events": lines - 2, "bytes": size_bytes}
    if as_json:
        print_json(said)
    else:
        console.print(f"{lines - 2} events in {path} ({size_bytes} bytes)", markup=False, soft_wrap=True)


def verify_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export; - is stdin.")],
    *,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HEX", help="The chain must end in this head, got elsewhere.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="AGENT=SECRET", help="Check that agent's signatures; may be repeated."),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", help='The same from a TOML file: agent = "secret", or a list while it rotates.'),
    ] = None,
    as_json: Json = False,
) -> None:
    """See VERIFY_HELP."""
    agents = _agents(secret or [], secret_file)
    try:
        with opened(file) as stream:
            verified = verify(stream, agents=agents, head=head)
    except VerificationFailed as fault:
        if as_json:
            print_json({"verified": False, "line": fault.line, "seq": fault.seq, "detail": fault.detail})
        raise CommandFailed(f"{file}: {plain(str(fault))}") from fault
    if as_json:
        print_json({"verified": True} | msgspec.to_builtins(verified))
    else:
        console.print(_told(verified), markup=False, soft_wrap=True)


def _told(verified: VerificationResult) -> str:
    state = plain(verified.status) + ("" if verified.finalized else ", not finalized")
    lines = [f"complete and unaltered: {verified.event_count} events of run {verified.run_id} ({state})"]
    lines.append(f"chain head {verified.chain_head}")
    if verified.signatures_verified:
        unchecked = f"{verified.signatures_unchecked} of agents without a secret here"
        lines.append(f"signatures: {verified.signatures_verified} verified, {unchecked}")
    return "\n".join(lines)


def _agents(given: Sequence[str], path: Path | None) -> Mapping[str, Sequence[str]]:
    agents: dict[str, list[str]] = {}
    for each in given:
        agent_id, equals, value = each.partition("=")
        if not (agent_id and equals and value):
            raise typer.BadParameter("--secret is AGENT=SECRET")
        agents.setdefault(agent_id, []).append(value)
    if path is not None:
        try:
            listed = msgspec.convert(tomllib.loads(read_text(path)), dict[str, str | list[str]])
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"--secret-file: {error}") from error
        for agent_id, secrets in listed.items():
            agents.setdefault(agent_id, []).extend([secrets] if isinstance(secrets, str) else secrets)
    return agents


def _gateway(folder: Path) -> Gateway:
    known = addresses.read(folder, os.environ)
    return Gateway(GatewayReads(known.need("gateway"), api_key=known.need("api_key")))


def _document(text: bytes | None) -> Any:
    return None if text is None else msgspec.json.decode(text)

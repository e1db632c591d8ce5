"""The spool file: what is written, what the next client finds, and what two processes do to each other."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.client.encoding import PendingEvent
from gateway.client.errors import SpoolUnusable
from gateway.client.spool import Spool
from gateway.client.spooled import Line, SpooledEnd, SpooledEvent, spooled_event

MIB = 1024 * 1024
ROOT = Path(__file__).parents[4]


def event(number: int, *, agent_id: str = "clerk", session: str = "s", text: str = "") -> Line:
    pending = PendingEvent(
        type="message",
        actor="agent",
        t="2026-01-01T00:00:00Z",
        idempotency_key=f"k{number}",
        payload=json.dumps([number, text]),
        size_bytes=10,
    )
    return spooled_event(pending, session=session, run_id="run-1", agent_id=agent_id, head=0, resume=False)


def end() -> Line:
    return SpooledEnd(session="s", run_id="run-1", agent_id="clerk", head=0, status="failed", lost_count=2)


def open_spool(tmp_path: Path, bytes_max: int = MIB) -> Spool:
    return Spool(tmp_path / "spool", bytes_max=bytes_max)


def keys(lines: object) -> list[str]:
    assert isinstance(lines, list)
    return [line.idempotency_key for line in lines if isinstance(line, SpooledEvent)]


def test_what_is_written_is_found_in_order(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    assert spool.append([event(1), event(2)]) == 2
    assert spool.append([end()]) == 1
    claim = spool.claim("clerk")
    assert claim is not None
    assert claim.lines == [event(1), event(2), end()]
    claim.finish([])
    assert spool.claim("clerk") is None
    assert [path.name for path in tmp_path.iterdir()] == ["spool.lock"]


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "spool").touch(mode=0o644)
    spool = open_spool(tmp_path)
    spool.append([event(1)])
    claim = spool.claim("clerk")
    assert claim is not None
    spool.append([event(2)])
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}
    claim.release()


@pytest.mark.parametrize(
    "cut",
    [b'{"kind":"event","sess', b"\xff\xfe", b"[1,2]", b'{"kind":"other"}', b"[" * 100_000, b"\0" * 100, b"\n\n"],
)
def test_a_damaged_or_truncated_line_costs_only_itself(tmp_path: Path, cut: bytes) -> None:
    spool = open_spool(tmp_path)
    spool.append([event(1)])
    with spool.path.open("ab") as file:
        file.write(cut)
    spool.append([event(2)])
    claim = spool.claim("clerk")
    assert claim is not None
    assert keys(claim.lines) == ["k1", "k2"]
    claim.release()


def test_a_run_id_that_would_lead_elsewhere_is_no_line(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([msgspec.structs.replace(event(1), run_id="../../admin"), event(2)])
    claim = spool.claim("clerk")
    assert claim is not None
    assert keys(claim.lines) == ["k2"]
    claim.release()


def test_it_is_bounded_and_says_how_much_it_took(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, bytes_max=10_000)
    lines = [event(number, text="x" * 1000) for number in range(20)]
    taken = spool.append(lines)
    assert 5 < taken < 10
    assert spool.append(lines) == 0
    claim = spool.claim("clerk")
    assert claim is not None
    assert spool.append(lines) == 0, "what is being sent counts too"
    claim.release()


def test_lines_of_another_agent_stay(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([event(1, agent_id="other"), event(2)])
    claim = spool.claim("clerk")
    assert claim is not None
    assert keys(claim.lines) == ["k2"]
    claim.finish([])
    other = spool.claim("other")
    assert other is not None
    assert keys(other.lines) == ["k1"]
    other.release()


def test_what_is_left_comes_before_what_was_written_since(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([event(1), event(2)])
    claim = spool.claim("clerk")
    assert claim is not None
    spool.append([event(3)])
    claim.finish([event(2)])
    again = spool.claim("clerk")
    assert again is not None
    assert keys(again.lines) == ["k2", "k3"]
    again.release()


def test_two_clients_do_not_send_the_same_lines(tmp_path: Path) -> None:
    spool, other = open_spool(tmp_path), open_spool(tmp_path)
    spool.append([event(1)])
    claim = spool.claim("clerk")
    assert claim is not None
    assert other.claim("clerk") is None
    other.append([event(2)])
    second = other.claim("clerk")
    assert second is not None
    assert keys(second.lines) == ["k2"]
    claim.finish([])
    second.finish([])


def test_lines_of_a_client_that_died_while_it_sent_them_are_taken_over(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([event(1)])
    # As a process that is killed: its lock goes with it.
    start(spool.path, "spool.claim('clerk'); os._exit(9)").wait()
    spool.append([event(2)])
    claim = spool.claim("clerk")
    assert claim is not None
    assert keys(claim.lines) == ["k1", "k2"]
    claim.finish([])
    assert [path.name for path in tmp_path.iterdir()] == ["spool.lock"]


def start(path: Path, body: str) -> subprocess.Popen[bytes]:
    """Start another process that uses the spool file."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from gateway.client.spool import Spool\n"
        "from tests.unit.gateway.client.test_spool import event\n"
        f"spool = Spool(Path(sys.argv[1]), bytes_max={MIB})\n{body}"
    )
    return subprocess.Popen([sys.executable, "-c", program, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_processes_that_share_it_lose_nothing(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    body = "for number in range(50): spool.append([event(1000 * {0} + number, session='{0}', text='x' * 500)])"
    workers = [start(spool.path, body.format(worker)) for worker in range(3)]
    found: list[str] = []
    while any(worker.poll() is None for worker in workers) or spool.path.exists():
        if (claim := spool.claim("clerk")) is not None:
            found += keys(list(claim.lines))
            claim.finish([])
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(found) == sorted(f"k{1000 * worker + number}" for worker in range(3) for number in range(50))


def test_a_path_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    for path in ("file/spool", "fifo", "link", "folder", "a\0b"):
        spool = Spool(tmp_path / path, bytes_max=MIB)
        with pytest.raises(SpoolUnusable, match="spool file"):
            spool.append([event(1)])


def test_neither_key_nor_secret_is_written(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([event(1), end()])
    names = {name for line in spool.path.read_text().splitlines() for name in json.loads(line)}
    assert not {name for name in names if "secret" in name or "signature" in name or "api" in name}

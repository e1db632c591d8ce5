"""
A check that an export is complete and unaltered. Pure: bytes in, a verdict out, one line in memory at a time.

What it proves: every event has the content that its digest names, the events are those of the chain in its order, the
head is the one that the trace record has, and no byte of the file is another than when it was sealed. What it cannot
prove alone: whoever rewrites a whole file can recompute digests, chain and seals. Against that stands what such a
person does not have: the agents' secrets, and a head that the reader got elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from deploy.export.format import FORMAT, LINE_BYTES_MAX, SEAL_START, VERSION, seal, sent, split
from schemas import strictjson
from schemas.access.credentials import Agent
from schemas.canonical import event_digest
from schemas.errors import Invalid
from schemas.ids import is_id
from schemas.runs.chain import CHAIN_START, link
from schemas.runs.rules import agent_id_of, event_faults
from schemas.runs.validity import signature_fault

HEADER_FIELDS = {"format", "version", "run_id", "status", "finalized", "exported_at", "seal"}
EVENT_FIELDS = {
    *("seq", "t", "actor", "type", "payload", "meta"),
    *("event_sha256", "wal_id", "chain", "seal"),
}
# An event that was stored before payload and meta counted as one level inside it may be one level deeper.
LINE_DEPTH_MAX = strictjson.DEPTH_MAX + 1
CLOSING_FIELDS = {"event_count", "chain_head", "finalized", "trace", "integrity", "seal"}


class VerificationFailed(Exception):
    """The file is not what was exported. Do not rely on it; the text names the first fault and its place."""

    def __init__(self, line: int, seq: int | None, detail: str) -> None:
        """Name the line, from 1, and the event, if it is one's."""
        super().__init__(f"line {line}{'' if seq is None else f' (seq {seq})'}: {detail}")
        self.line = line
        self.seq = seq
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationResult:
    """A file that holds."""

    run_id: str
    status: str
    finalized: bool
    event_count: int
    chain_head: str
    signatures_verified: int
    signatures_unchecked: int  # of agents whose secrets were not given


def verify(
    file: BinaryIO, *, agents: Mapping[str, Sequence[str]] | None = None, head: str | None = None
) -> VerificationResult:
    """
    Read all of *file*; check signatures of *agents*, by id with their secrets, and that the chain ends in *head*.

    Raises:
        VerificationFailed: at the first fault.
    """
    reading = _Reading(agents or {})
    for line in _lines(file):
        reading.take(line)
    verified = reading.end()
    if head is not None and head.lower() != verified.chain_head:
        raise reading.refused(f"the chain ends in {verified.chain_head}, not in the head that was given")
    return verified


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES_MAX + 1):
        yield line


class _Reading:
    """The state of a verification: what has been read, against which the following lines are checked."""

    def __init__(self, agents: Mapping[str, Sequence[str]]) -> None:
        self._number = 0
        self._seq: int | None = None  # of the event that is looked at
        self._chain = CHAIN_START
        self._event_count = 0
        self._closed = False
        self._agents = {agent_id: Agent(secrets=list(secrets)) for agent_id, secrets in agents.items()}
        self._seal = SEAL_START
        self._last_seq = 0
        self._header: Mapping[str, Any] = {}
        self._signed = 0
        self._unchecked = 0

    def refused(self, detail: str) -> VerificationFailed:
        return VerificationFailed(self._number, self._seq, detail)

    def take(self, line: bytes) -> None:
        self._number += 1
        self._seq = None
        if len(line) > LINE_BYTES_MAX:
            raise self.refused(f"longer than {LINE_BYTES_MAX} bytes")
        if self._closed:
            raise self.refused("text follows the last line")
        document = self._decoded(line)
        if self._number == 1:
            self._take_header(document)
        elif "chain_head" in document:
            self._close(document)
        else:
            self._event(document)
        self._check_seal(line)

    def end(self) -> VerificationResult:
        self._seq = None
        if not self._closed:
            self._number += 1
            where = f"behind seq {self._last_seq}" if self._last_seq else "before any event"
            raise self.refused(f"the file ends {where} without its last line: it was cut off")
        return VerificationResult(
            run_id=self._header["run_id"],
            status=self._header["status"],
            finalized=self._header["finalized"],
            event_count=self._event_count,
            chain_head=self._chain.hex(),
            signatures_verified=self._signed,
            signatures_unchecked=self._unchecked,
        )

    def _take_header(self, header: Mapping[str, Any]) -> None:
        if header.get("format") != FORMAT:
            raise self.refused(f"no header of a {FORMAT}")
        if header.get("version") != VERSION:
            raise self.refused(f"version {header.get('version')!r:.40} of the format; this command reads {VERSION}")
        self._need(header, HEADER_FIELDS)
        if not isinstance(header["run_id"], str) or not is_id(header["run_id"]):
            raise self.refused("run_id names no run")
        if not isinstance(header["status"], str) or not isinstance(header["finalized"], bool):
            raise self.refused("status or finalized is of another kind")
        self._header = header

    def _event(self, line: Mapping[str, Any]) -> None:
        seq = line.get("seq")
        self._seq = seq if isinstance(seq, int) else None
        self._need(line, EVENT_FIELDS)
        event = sent(line)
        if faults := event_faults(event, run_id=self._header["run_id"]):
            raise self.refused(f"no valid event: {Invalid(faults)}")
        assert isinstance(seq, int), "a valid event's seq is"
        if seq == self._last_seq:
            raise self.refused("the event stands here twice")
        if seq < self._last_seq:
            raise self.refused(f"out of order: it comes behind seq {self._last_seq}")
        digest = event_digest(event)
        if line["event_sha256"] != digest.hex():
            raise self.refused("event_sha256 is not the digest of the event: one of them was changed")
        self._chain = link(self._chain, seq, digest)
        if line["chain"] != self._chain.hex():
            before = f"seq {self._last_seq}" if self._last_seq else "the header"
            what = "a link was changed" if seq == self._last_seq + 1 else "events between them are missing or moved"
            raise self.refused(f"the chain does not go on from {before}: {what}")
        self._last_seq = seq
        self._event_count += 1
        self._check_signature(event)

    def _check_signature(self, event: Mapping[str, Any]) -> None:
        agent = self._agents.get(agent_id_of(event["meta"]))
        if agent is None:
            self._unchecked += 1
        elif fault := signature_fault(event, agent):
            raise self.refused(f"signature: {fault}")
        else:
            self._signed += 1

    def _close(self, line: Mapping[str, Any]) -> None:
        self._closed = True
        self._need(line, CLOSING_FIELDS)
        if line["event_count"] != self._event_count:
            raise self.refused(
                f"event_count is {line['event_count']!r:.40}, and {self._event_count} events stand before it: "
                f"events behind seq {self._last_seq} are missing, or the count was changed"
            )
        if line["chain_head"] != self._chain.hex():
            raise self.refused("chain_head is not where the chain ends")
        if line["finalized"] is not self._header["finalized"]:
            raise self.refused("finalized is not as the header says")
        trace = line["trace"]
        if not line["finalized"]:
            if trace is not None:
                raise self.refused("there is a trace record of a run that is not finalized")
            return
        expected = {"chain_head": self._chain.hex(), "event_count": self._event_count, "status": self._header["status"]}
        for name, value in expected.items():
            if not isinstance(trace, Mapping) or trace.get(name) != value:
                raise self.refused(f"the trace record's {name} is not that of the events: {value}")

    def _decoded(self, line: bytes) -> Mapping[str, Any]:
        if not line.endswith(b"\n"):
            raise self.refused("the line has no end: the file was cut off, or something was added")
        try:
            document = strictjson.decode(line.decode(), depth_max=LINE_DEPTH_MAX)
        except UnicodeDecodeError:
            raise self.refused("not UTF-8") from None
        except strictjson.NotJson as error:
            raise self.refused(f"no JSON: {error}") from None
        except Invalid as error:
            raise self.refused(f"not as it was written: {error}") from None
        if not isinstance(document, Mapping):
            raise self.refused("no JSON object")
        return document

    def _need(self, document: Mapping[str, Any], fields: set[str]) -> None:
        if wrong := document.keys() ^ fields:
            raise self.refused(f"fields are missing or not known: {', '.join(sorted(map(repr, wrong))[:5])[:300]}")

    def _check_seal(self, line: bytes) -> None:
        parts = split(line)
        if parts is None:
            raise self.refused("the line does not end with its seal")
        body, borne = parts
        self._seal = seal(self._seal, body)
        if borne != self._seal:
            raise self.refused("the seal is not that of this line behind the one before: one of them was changed")

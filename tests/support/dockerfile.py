"""A Dockerfile as its instructions, as far as ours uses the language; anything else is refused, not skipped."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KNOWN = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction: its name and all that follows, on one line."""

    name: str
    rest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The instructions from one FROM to the next."""

    name: str
    instructions: Sequence[Instruction]


def parse(path: Path) -> list[Stage]:
    """Return the stages of the Dockerfile at *path*."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    stages: list[tuple[str, list[Instruction]]] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        name, rest = line.split(maxsplit=1)
        assert name in KNOWN, f"{path.name} uses {name}, which the emulation does not know"
        if name == "FROM":
            stages.append((rest.split()[-1], []))
        else:
            stages[-1][1].append(Instruction(name=name, rest=" ".join(rest.split())))
    return [Stage(name=name, instructions=instructions) for name, instructions in stages]


def variables(rest: str, before: Mapping[str, str]) -> dict[str, str]:
    """Return what an ENV instruction sets, $NAME replaced by what was set *before*."""
    pairs = (word.split("=", 1) for word in shlex.split(rest))
    return {name: re.sub(r"\$(\w+)", lambda used: before[used[1]], value) for name, value in pairs}


def command(rest: str) -> list[str]:
    """Return the command of a CMD or HEALTHCHECK instruction, which is written as a JSON array."""
    parsed: list[str] = json.loads(rest[rest.index("[") :])
    return parsed

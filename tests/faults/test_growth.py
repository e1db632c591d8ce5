"""Under a steady load neither memory nor open files grow."""

import os
from pathlib import Path
from statistics import median

import pytest

from tests.faults.checker import check
from tests.faults.load import sending
from tests.faults.processes import for_a_while, open_files, resident_mib
from tests.support.stack import RunningStack

MINUTES = float(os.environ.get("SOAK_MINUTES", "30")) / 10
WARM_UP_S = 30.0
SAMPLES = 60
GROWTH_MAX_MIB = 16
OPEN_FILES_MAX = 8  # more than at the start: connections that come and go
RESIDENT_MAX_MIB = 300


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 300)
def test_memory_and_open_files_stay_as_they_are(stack: RunningStack, tmp_path: Path) -> None:
    pids = {name: stack.process(name).pid for name in ("gateway", "persistence")}
    memory: dict[str, list[int]] = {name: [] for name in pids}
    files: dict[str, list[int]] = {name: [] for name in pids}
    with sending(stack, tmp_path / "ledger.jsonl") as load:
        for_a_while(WARM_UP_S)
        for _ in range(SAMPLES):
            for_a_while(MINUTES * 60 / SAMPLES)
            for name, pid in pids.items():
                memory[name].append(resident_mib(pid))
                files[name].append(open_files(pid))
    check(stack, [load.ledger])
    for name in pids:
        print(f"{name}: {memory[name][0]} to {memory[name][-1]} MiB, {files[name][0]} to {files[name][-1]} files")  # noqa: T201
        assert max(memory[name]) < RESIDENT_MAX_MIB, name
        assert growth(memory[name]) < GROWTH_MAX_MIB, f"{name}: {memory[name]}"
        assert growth(files[name]) < OPEN_FILES_MAX, f"{name}: {files[name]}"


def growth(samples: list[int]) -> float:
    """Return how far the last third lies above the first."""
    third = len(samples) // 3
    return median(samples[-third:]) - median(samples[:third])

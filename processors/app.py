"""Every processor by its name. Nothing imports this but `__main__`; each is put together in its own `process.py`."""

from collections.abc import Mapping

from processors.fanout.process import run_fanout
from processors.runs.evaluation.process import run_evaluation
from processors.runs.persistence.process import run_persistence
from processors.runs.retention.process import run_maintenance
from processors.runtime.order import Processor

PROCESSORS: Mapping[str, Processor] = {
    "persistence": run_persistence,
    "fanout": run_fanout,
    "evaluation": run_evaluation,
    "maintenance": run_maintenance,
}

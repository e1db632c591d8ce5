"""Every processor by its name. Nothing imports this but `__main__`; each is put together in its own `process.py`."""

from collections.abc import Mapping

from processors.archive import process as archive
from processors.documents.intake import process as documents_intake
from processors.documents.store import process as documents_store
from processors.documents.work import process as documents_embed
from processors.events.processing import process as processing
from processors.events.rows import process as events
from processors.fanout import process as fanout
from processors.jobs.executor import process as executor
from processors.jobs.intake import process as jobs_intake
from processors.runs.evaluation import process as evaluation
from processors.runs.persistence import process as persistence
from processors.runs.retention import process as retention
from processors.runtime.process import Process
from processors.sinks import process as sink

PROCESSES: Mapping[str, Process] = {
    "persistence": persistence.PROCESS,
    "events": events.PROCESS,
    "processing": processing.PROCESS,
    "fanout": fanout.PROCESS,
    "evaluation": evaluation.PROCESS,
    "sink": sink.PROCESS,
    "archive": archive.PROCESS,
    "maintenance": retention.PROCESS,
    "documents-intake": documents_intake.PROCESS,
    "documents-embed": documents_embed.PROCESS,
    "documents-store": documents_store.PROCESS,
    "jobs-intake": jobs_intake.PROCESS,
    "executor": executor.PROCESS,
}

"""Logs, alike in every process: one JSON object a line on stderr, those of libraries included."""

import logging
import sys
import threading
from types import TracebackType

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from schemas.process.settings import SettingsInvalid

logger = structlog.get_logger()

SELDOM_S = 10.0

# Locals can hold payloads and secrets.
RENDER_ERRORS = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))

_SHARED = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    RENDER_ERRORS,
)
# ASCII: some readers end a line at U+2028 or U+0085, and a terminal obeys U+009B.
_JSON = structlog.processors.JSONRenderer(ensure_ascii=True)


class OncePerInterval(logging.Filter):
    """A filter that passes one line in `SELDOM_S`."""

    def __init__(self) -> None:
        """Pass the first line."""
        super().__init__()
        self._passed_at_s = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if *record* is written."""
        is_due = record.created - self._passed_at_s >= SELDOM_S
        if is_due:
            self._passed_at_s = record.created
        return is_due


def log_as_json(level: str) -> None:
    """
    Configure logging for this process; *level* is the least severe that is written.

    Raises:
        SettingsInvalid: there is no such level.
    """
    if level.upper() not in logging.getLevelNamesMapping():
        raise SettingsInvalid(f"TIDEGATE_LOG_LEVEL={level!r} is none of DEBUG, INFO, WARNING, ERROR")
    structlog.configure(
        processors=[*_SHARED, _JSON],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_SHARED],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _JSON],
        )
    )
    # Libraries speak of normal work at INFO.
    library_level = max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()])
    logging.basicConfig(level=library_level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable
    # Every attempt to connect would be told; the store and the publisher tell once that theirs is away.
    for library in ("psycopg.pool", "librdkafka"):
        logging.getLogger(library).addFilter(OncePerInterval())


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logger.critical("the process ends by an error that nothing handles", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None:
        name = failed.thread.name if failed.thread is not None else None
        logger.error("a thread ends by an error that nothing handles", thread=name, exc_info=failed.exc_value)


def _log_unraisable(failed: "sys.UnraisableHookArgs") -> None:
    if failed.exc_value is not None:
        logger.error("an error in a callback was ignored", where=repr(failed.object), exc_info=failed.exc_value)

"""
The peer of user events and of jobs: FastAPI, Celery, Redis and Postgres, put together as their guides say.

`app` is the API: it stores a row, queues a task and answers 202. `celery_app` is the worker's: a task marks the rows of
its request as processed. Run in an environment of its own; see `celery_peer`.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import psycopg
from celery import Celery
from celery.signals import worker_process_init
from fastapi import Depends, FastAPI, Header, HTTPException
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

POSTGRES, REDIS, KEY = os.environ["PEER_POSTGRES"], os.environ["PEER_REDIS"], os.environ["PEER_KEY"]
INSERT = """
    INSERT INTO peer_events (id, user_id, type, payload, occurred_at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (id) DO NOTHING
"""
PROCESSED = "UPDATE peer_events SET status = 'processed', processed_at = now(), result = %s WHERE id = ANY(%s)"

INSERT_JOB = "INSERT INTO peer_jobs (id, type, parameters) VALUES (%s, %s, %s)"
STARTED = "UPDATE peer_jobs SET status = 'running', started_at = now() WHERE id = %s"
COMPLETED = "UPDATE peer_jobs SET status = 'completed', finished_at = now(), result = %s WHERE id = %s"

celery_app = Celery("shop", broker=REDIS, backend=None)
celery_app.conf.update(task_acks_late=True, worker_prefetch_multiplier=4, task_ignore_result=True)
_session: psycopg.Connection[Any] | None = None


@worker_process_init.connect
def connect(**_: object) -> None:
    """Open the session of one of the worker's processes."""
    global _session  # noqa: PLW0603
    _session = psycopg.connect(POSTGRES, autocommit=True)


@celery_app.task(name="process", autoretry_for=(psycopg.Error,), max_retries=3, retry_backoff=2)
def process(ids: list[str]) -> None:
    """Mark events as processed."""
    assert _session is not None
    _session.execute(PROCESSED, (Jsonb({"ok": True}), ids))


@celery_app.task(name="job", autoretry_for=(psycopg.Error,), max_retries=3, retry_backoff=2)
def run_job(job_id: str, value: Any) -> None:
    """Run a job that returns its value, and keep its state as it goes."""
    assert _session is not None
    _session.execute(STARTED, (job_id,))
    _session.execute(COMPLETED, (Jsonb({"value": value}), job_id))


class Event(BaseModel):
    """An event as it is sent."""

    id: str
    type: str
    user_id: str
    occurred_at: str
    payload: dict[str, Any]


@asynccontextmanager
async def lifespan(served: FastAPI) -> AsyncIterator[None]:
    """Hold the pool open while the API is served."""
    async with AsyncConnectionPool(POSTGRES, min_size=4, max_size=16) as pool:
        served.state.pool = pool
        yield


def check_key(x_api_key: Annotated[str, Header()]) -> None:
    """Refuse a request without the key."""
    if x_api_key != KEY:
        raise HTTPException(401)


app = FastAPI(lifespan=lifespan, dependencies=[Depends(check_key)])


async def _store(events: list[Event]) -> str:
    rows = [(each.id, each.user_id, each.type, Jsonb(each.payload), each.occurred_at) for each in events]
    async with app.state.pool.connection() as session, session.cursor() as cursor:
        await cursor.executemany(INSERT, rows)
    process.delay([each.id for each in events])
    return str(uuid.uuid4())


@app.post("/api/v1/events", status_code=202)
async def accept(event: Event) -> dict[str, str]:
    """Accept one event."""
    return {"event_id": event.id, "task_id": await _store([event]), "status": "accepted"}


@app.post("/api/v1/events/batch", status_code=202)
async def accept_all(events: list[Event]) -> dict[str, str]:
    """Accept events, with one task for all."""
    return {"task_id": await _store(events), "status": "accepted"}


class Job(BaseModel):
    """A job as it is sent."""

    type: str
    parameters: dict[str, Any]


@app.post("/api/tasks", status_code=202)
async def submit(job: Job) -> dict[str, str]:
    """Accept one job."""
    job_id = str(uuid.uuid4())
    async with app.state.pool.connection() as session:
        await session.execute(INSERT_JOB, (job_id, job.type, Jsonb(job.parameters)))
    run_job.delay(job_id, job.parameters["value"])
    return {"task_id": job_id, "status": "pending"}

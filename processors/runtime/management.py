"""The management port of a worker: /livez says that its loop turns, /readyz what it waits for, /metrics the rest."""

import json

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from processors.runtime.health import Health
from schemas.process import telemetry, watched
from schemas.process.http_protocol import HttpRunner

KEEP_ALIVE_S = 30.0  # of an idle connection; aiohttp's default is an hour


def management_runner(health: Health, instruments: telemetry.Telemetry) -> HttpRunner:
    """Return the runner of the application behind the management port."""
    return HttpRunner(create_management(health, instruments), access_log=None, keepalive_timeout=KEEP_ALIVE_S)


def create_management(health: Health, instruments: telemetry.Telemetry) -> web.Application:
    """Return the application behind the management port."""

    async def live(_request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def ready(_request: web.Request) -> web.Response:
        status = health.status()
        # Degraded is not unready: the worker holds its partitions and goes on by itself.
        return web.Response(
            status=503 if status in ("starting", "unready") else 200,
            text=json.dumps(
                {
                    "status": status,
                    "reason": health.reason(),
                    "files": watched.problems(),
                    "waiting": {str(each): why for each, why in health.waiting.items()},
                }
            ),
            content_type="application/json",
        )

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(instruments.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/livez", live), web.get("/readyz", ready), web.get("/metrics", metrics)])
    return app

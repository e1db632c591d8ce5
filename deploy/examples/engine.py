"""
An evaluation engine in a page: it takes Tidegate's webhooks, verifies them with the official library, and scores runs.

    ENGINE_SECRET=whsec_... python -m deploy.examples.engine --port 8090

Shares no code with what sends them. A delivery comes at least once: the id says whether it was here before. GET /
shows what was taken; the last runs alone are remembered.
"""

import argparse
import json
import os
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

RUNS_MAX = 1_000
IDS_MAX = 100_000


@dataclass(slots=True)
class Score:
    """The score of one run."""

    events: int = 0
    errors: int = 0
    types: Counter[str] = field(default_factory=Counter)
    status: str = "open"


class Engine:
    """An engine that takes webhooks, each once."""

    def __init__(self, secret: str) -> None:
        """Verify with *secret*."""
        self._webhook = Webhook(secret)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._runs: OrderedDict[tuple[str, str], Score] = OrderedDict()
        self._repeated = 0

    async def take(self, request: web.Request) -> web.Response:
        """Take one delivery; 400 for what nobody of ours has signed."""
        try:
            delivery = self._webhook.verify(await request.text(), dict(request.headers))
        except WebhookVerificationError as error:
            return web.json_response({"error": str(error)}, status=400)
        identity = request.headers["webhook-id"]
        if identity in self._seen:
            self._repeated += 1
            return web.json_response({"status": "repeated"})
        self._seen[identity] = None
        if len(self._seen) > IDS_MAX:
            self._seen.popitem(last=False)
        self._score(delivery["type"], delivery["data"])
        return web.json_response({"status": "taken"})

    async def show(self, _request: web.Request) -> web.Response:
        """Return what was taken, the newest run last."""
        runs = [
            {"tenant": tenant, "run_id": run_id, "status": score.status, "events": score.events}
            | {"errors": score.errors, "types": dict(score.types)}
            for (tenant, run_id), score in self._runs.items()
        ]
        return web.json_response({"taken": len(self._seen), "repeated": self._repeated, "runs": runs})

    def _score(self, kind: str, data: dict[str, object]) -> None:
        about = data["event"] if kind == "trace_event" else data["run"]
        assert isinstance(about, dict), "both kinds say what they are about"
        run = (str(data["tenant"]), str(about["run_id"]))
        score = self._runs.setdefault(run, Score())
        self._runs.move_to_end(run)
        if len(self._runs) > RUNS_MAX:
            self._runs.popitem(last=False)
        if kind == "run_finalized":
            score.status = str(about["status"])
            return
        score.events += 1
        score.types[about["type"]] += 1
        score.errors += about["type"] == "error"


async def ready(_request: web.Request) -> web.Response:
    """Answer that webhooks are accepted."""
    return web.Response(text=json.dumps({"status": "ready"}), content_type="application/json")


def main() -> None:
    """Serve on loopback until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="An example of an evaluation engine.")
    parser.add_argument("--port", type=int, default=8090)
    engine = Engine(os.environ["ENGINE_SECRET"])
    app = web.Application()
    app.add_routes([web.post("/", engine.take), web.get("/", engine.show), web.get("/readyz", ready)])
    web.run_app(app, host="127.0.0.1", port=parser.parse_args().port, access_log=None, print=None)


if __name__ == "__main__":
    main()

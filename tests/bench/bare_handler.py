"""
The baseline of the gateway: an aiohttp handler that reads the body and answers 202. Prints its address.

On asyncio's own loop, as aiohttp runs by itself, or on uvloop, as our gateway does.
"""

import asyncio
import sys

import uvloop
from aiohttp import web


async def accept(request: web.Request) -> web.Response:
    """Read and answer, nothing else."""
    await request.read()
    return web.Response(status=202)


async def serve() -> None:
    """Serve on a free port until killed."""
    app = web.Application()
    app.add_routes([web.post("/api/runs/{run_id}/events/", accept)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1:] == ["uvloop"]:
        uvloop.run(serve())
    else:
        asyncio.run(serve())

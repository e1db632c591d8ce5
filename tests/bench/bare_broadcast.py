"""
The baseline of live streams: a bare aiohttp server that sends each message to each websocket, one after the other.

    python -m tests.bench.bare_broadcast EVENTS

Prints its address; broadcasts EVENTS messages, the size of ours, when it reads a line.
"""

import asyncio
import json
import sys

from aiohttp import web

PAYLOAD = {"text": "x" * 300}


async def main() -> None:
    """Serve until the process is ended."""
    sockets: list[web.WebSocketResponse] = []

    async def join(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        sockets.append(ws)
        async for _ in ws:
            pass
        return ws

    app = web.Application()
    app.router.add_get("/", join)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    print(f"ws://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/", flush=True)  # type: ignore[attr-defined]
    await asyncio.to_thread(sys.stdin.readline)
    for seq in range(1, int(sys.argv[1]) + 1):
        event = {"run_id": "bare", "seq": seq, "t": "2026-01-01T12:00:00Z", "type": "message", "payload": PAYLOAD}
        text = json.dumps({"type": "trace_event", "cursor": "c" * 60, "event": event}, separators=(",", ":"))
        for ws in sockets:
            await ws.send_str(text)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

"""Our side of the comparison: what processing calls for each event."""


async def on_event(_event: object) -> dict[str, bool]:
    """Do as little as the peer's task."""
    return {"ok": True}

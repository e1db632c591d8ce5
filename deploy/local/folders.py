"""The folders for downloads, shared by all stacks of a user, and for what commands leave in a stack's own folder."""

import os
from collections.abc import Mapping
from pathlib import Path

OBJECTS = "objects"  # in the folder of a stack: large payloads, unless TIDEGATE_OBJECTS names another place
REPLAYS = "replays"  # in the folder of a stack: the plans of `tidegate replay`


def cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the download cache: TIDEGATE_CACHE, else `tidegate` in the user's cache folder."""
    if chosen := environ.get("TIDEGATE_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"

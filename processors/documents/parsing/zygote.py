"""`python -m processors.documents.parsing.zygote FD PID READER LIMITS`: a zygote that has loaded the readers."""

import sys
from functools import partial
from importlib import import_module

import msgspec

from processors.children import linux
from processors.children.zygote import serve_forks
from processors.documents.parsing.child import serve
from processors.documents.parsing.messages import ChildLimits


def main() -> None:
    """Load the reader that the command line names as MODULE:FUNCTION, leave the network, and serve."""
    descriptor, parent, reader, limits = sys.argv[1:]
    module, _, name = reader.partition(":")
    life = partial(
        serve,
        read=getattr(import_module(module), name),
        limits=msgspec.json.decode(limits, type=ChildLimits),
        is_without_network=linux.leave_network(),
    )
    serve_forks(int(descriptor), int(parent), load=lambda: None, serve=life)


if __name__ == "__main__":
    main()

"""Tools for operators: the `tidegate` command, the embedded stack, examples and manifests."""

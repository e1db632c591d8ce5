"""What an operator runs: the `tidegate` command, the embedded stack, examples and manifests."""

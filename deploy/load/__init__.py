"""Load on a gateway: what `tidegate send` sends, how it sends it, and what became of it."""

"""How much is accepted of whom, and how fast."""

"""A real agent that reports what it does, and a demonstration of every part with it."""

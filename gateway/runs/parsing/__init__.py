"""Bodies to events, each with its record."""

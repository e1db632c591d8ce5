"""Bodies to events: a translator a format, and what all formats share."""

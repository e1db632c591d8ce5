"""How fast others are sent to, and whether at all."""

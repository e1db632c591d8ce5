"""User events: what a product's clients send and read."""

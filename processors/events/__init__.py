"""User events: their rows, and the functions that process them."""

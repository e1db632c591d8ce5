"""Payloads too large for the log: their references, and the storage that keeps them."""

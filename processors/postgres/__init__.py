"""Writes to Postgres."""

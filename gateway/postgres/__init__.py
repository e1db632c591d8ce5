"""Reads of Postgres."""

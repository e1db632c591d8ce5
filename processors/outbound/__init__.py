"""Requests to receivers outside: where they may go, when, and what an answer means."""

"""Pacing of requests to others: their rate, and circuit breakers."""

"""Pacing: of what the gateway admits, of work that takes permits, and of requests to others."""

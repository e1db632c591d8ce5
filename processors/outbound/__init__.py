"""Requests to external receivers: the allowed addresses, the circuit breaker, and the meaning of an answer."""

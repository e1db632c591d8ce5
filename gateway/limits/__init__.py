"""Limits on the number and the rate of events and requests."""

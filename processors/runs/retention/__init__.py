"""Retention of stored events, rejected records and objects, and abandonment of idle runs."""

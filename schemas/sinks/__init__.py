"""Sinks: where records are sent in batches, one consumer group a sink."""

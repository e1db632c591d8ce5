"""Kafka to effects: one process per consumer group, each turning a record into exactly one effect."""

"""Runs of agents: their records, topics and rules."""

"""How a consumer group turns slices of the log into effects without losing or doubling one. Knows nothing of runs."""

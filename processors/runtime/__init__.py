"""The runtime that turns slices of the log into effects without losing or doubling one. It knows nothing of runs."""

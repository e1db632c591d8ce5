"""The order of a run's events: what the log holds of a run, remembered, and what may therefore follow."""

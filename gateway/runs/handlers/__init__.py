"""The handlers of runs."""

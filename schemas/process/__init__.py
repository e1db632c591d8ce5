"""The basics of every process: settings, logs, metrics, watched files, and Postgres's address and tables."""

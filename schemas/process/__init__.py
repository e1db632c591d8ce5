"""What every process needs: settings, logs, metrics, files that are read again, Postgres's address and tables."""

"""Run events to rows in Postgres: one partition slice a transaction, rows in log order, each once."""

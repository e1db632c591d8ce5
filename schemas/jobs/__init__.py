"""Background jobs: commands in the log, rows in Postgres, and the types of tasks that executors run."""

"""Background jobs: commands to rows, executors that claim rows, and the child processes that run tasks."""

"""The groups and tasks that handle runs: rows, webhooks, retention."""

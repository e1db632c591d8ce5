"""Background jobs: submit tasks, follow them, and change them, their queues and their schedules."""

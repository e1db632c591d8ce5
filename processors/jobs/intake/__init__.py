"""The group jobs.intake: commands become rows; beside it the relays, schedules and operations."""

"""The events group: rows of user events in Postgres."""

"""The outcome of a record, and the status of the log and its consumer groups."""

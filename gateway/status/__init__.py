"""What became of a record, and how the log and its groups are doing."""

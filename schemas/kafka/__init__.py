"""What all that reads or writes the log agrees on: topics, groups, records as bytes, headers, places."""

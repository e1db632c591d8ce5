"""The agreements between all readers and writers of the log: topics, groups, records as bytes, headers, positions."""

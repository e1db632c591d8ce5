"""The archive: the records of a topic are put into object storage, and go from there when they are old."""

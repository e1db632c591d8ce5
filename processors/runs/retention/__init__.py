"""What is done to stored runs as they age: retention of events, rejected records and objects, and giving runs up."""

"""The embedded stack: real Kafka, real Postgres and the processes, supervised on this machine."""

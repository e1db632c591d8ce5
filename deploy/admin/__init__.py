"""Administration of Kafka and Postgres, for the command and the embedded stack."""

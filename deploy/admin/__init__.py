"""What an operator does to Kafka and Postgres: used by the command and by the embedded stack."""

"""HTTP to Kafka: checks events, produces them, answers once the broker has acknowledged."""

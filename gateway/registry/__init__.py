"""The read half of Confluent's Schema Registry API."""

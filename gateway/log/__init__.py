"""The reading side of Kafka: records at a place, the ends of topics, and how far each group has committed."""

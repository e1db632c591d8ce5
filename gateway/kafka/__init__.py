"""Kafka as the gateway uses it: records published and read, the ends of topics, how far each group has committed."""

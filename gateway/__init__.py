"""
The gateway from HTTP to Kafka: it checks events, produces them, and answers once the broker has acknowledged them.
"""

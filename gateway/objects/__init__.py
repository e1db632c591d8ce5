"""Payloads too large for the log: kept in object storage before their record, and fetched for who asks."""

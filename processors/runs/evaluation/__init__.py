"""Run events to signed webhooks: one endpoint a group, each event delivered at least once under one id."""

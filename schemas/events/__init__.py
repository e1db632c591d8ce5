"""User events: what users of a product did, sent by browsers, servers and other event systems."""

"""Records in batches to a sink: HTTP, files, a table, or a class of the deployment's own. One group a sink."""

"""Documents: commands, work and events, their rules, and the embedders of texts and questions."""

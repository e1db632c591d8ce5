"""Live streams: the records of the log on websockets, each once and in order to who resumes with its cursor."""

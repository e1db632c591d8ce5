"""
Uploads, turned into texts by readers of their formats.

A reader is given bytes by a stranger, so it runs in a child process that may do next to nothing, see `child`.
"""

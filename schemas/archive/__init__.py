"""The archive: records of a topic as objects in object storage, each offset in exactly one."""

"""
Child processes that a zygote forks: its loop, its parent's side, and the frames between a parent and a child.

Why not a pool of a library: those share a channel or a lock among their processes, and one that dies at the wrong
moment takes the pool with it. Here each child has sockets of its own.
"""

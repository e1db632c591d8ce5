"""
Child processes that run tasks, one at a time each.

An executor starts one zygote for each class of tasks, which has loaded what its tasks need and forks a child whenever
it is asked to. Why not a pool of a library: those share a channel or a lock among their processes, and one that dies
at the wrong moment takes the pool with it. Here each child has sockets and pipes of its own.
"""

"""
Child processes that run tasks, one at a time each.

An executor starts one zygote for each class of tasks, which has loaded what its tasks need and forks a child whenever
it is asked to.
"""

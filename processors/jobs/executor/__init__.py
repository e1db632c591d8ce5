"""
Executors: processes that claim jobs and run them in child processes.

An executor is known by a random id of its start, and a job by the random id of its attempt: whoever writes about an
attempt names both the job and the attempt, and what is no longer that attempt's is not touched.
"""

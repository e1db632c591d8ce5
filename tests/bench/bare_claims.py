"""The baseline of executors: claim 64 rows and complete them until no row waits. Prints the seconds that it took."""

import sys
from time import perf_counter

import psycopg

CLAIM = """
    UPDATE bare_jobs SET status = 'running', started_at = clock_timestamp() WHERE job_id = ANY(ARRAY(
        SELECT job_id FROM bare_jobs WHERE queue = 'default' AND status = 'pending'
        ORDER BY priority DESC, run_at, job_id LIMIT 64 FOR UPDATE SKIP LOCKED))
    RETURNING job_id, parameters
"""
COMPLETE = """
    UPDATE bare_jobs SET status = 'completed', finished_at = clock_timestamp(), result = 'null'
    WHERE job_id = ANY(%s)
"""


def main() -> None:
    """Claim and complete."""
    with psycopg.connect(sys.argv[1], autocommit=True) as session:
        began_s = perf_counter()
        while claimed := session.execute(CLAIM).fetchall():
            session.execute(COMPLETE, [[row[0] for row in claimed]])
        print(perf_counter() - began_s)


if __name__ == "__main__":
    main()

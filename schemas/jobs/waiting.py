"""SQL on the narrow tables of jobs that several programs read, and what they share with executors."""

from typing import LiteralString

LEASE_S = 30.0  # an executor that was silent for so long has lost its jobs, unless a deployment says otherwise

HEADS: LiteralString = """
    WITH RECURSIVE heads AS (
        (SELECT queue, tenant_id, ready_at FROM job_ready
         WHERE lost = 0 ORDER BY queue, tenant_id, rank, job_id LIMIT 1)
      UNION ALL
        SELECT following.* FROM heads, LATERAL (
            SELECT queue, tenant_id, ready_at FROM job_ready
            WHERE lost = 0 AND (queue, tenant_id) > (heads.queue, heads.tenant_id)
            ORDER BY queue, tenant_id, rank, job_id LIMIT 1
        ) AS following
    )
"""
"""
The beginning of a statement: `heads` has the job that goes first of each tenant in each queue.

One look into the index for each, however many jobs wait; the oldest of a queue is nearly always among them.
"""

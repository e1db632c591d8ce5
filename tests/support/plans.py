"""Plans of statements as Postgres makes them for any parameters."""

import re
from typing import Any

import psycopg

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def generic_plan(session: psycopg.Connection[Any], statement: str) -> str:
    """Return the plan that Postgres makes for *statement* once it no longer looks at the values."""
    names = list(dict.fromkeys(_PLACEHOLDER.findall(statement)))
    numbered = _PLACEHOLDER.sub(lambda found: f"${names.index(found[1]) + 1}", statement).replace("%%", "%")
    session.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    session.execute(f"PREPARE asked AS {numbered}".encode())
    values = ", ".join("NULL" for _ in names)
    rows = session.execute(f"EXPLAIN EXECUTE asked({values})".encode()).fetchall()
    session.execute("DEALLOCATE asked")
    return "\n".join(row[0] for row in rows)

"""Tidegate's processes, as every deployment starts them. A new one is a line in `PROCESSES`."""

from dataclasses import dataclass, replace

DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One process, and what it may do in Postgres."""

    name: str
    command: tuple[str, ...]  # of `python -m`
    database_role: str | None  # None: it has no business in Postgres, and is not told where it is
    member_option: str | None = None  # there is one for each member of a family of groups, which this option names
    is_optional: bool = False  # it runs where a deployment has work for it
    has_log: bool = True  # False: it has no business in Kafka, and is given neither its address nor credentials
    extra: str | None = None  # of our package: without its modules the process cannot run

    @property
    def login(self) -> str:
        """Return its login role in Postgres."""
        return f"tidegate_{self.name.replace('-', '_')}"

    def of_member(self, member: str, *, is_only: bool = False) -> "ProcessSpec":
        """Return the process of one *member*; it has the member's name too unless it *is_only*."""
        assert self.member_option is not None
        name = self.name if is_only else f"{self.name}.{member}"
        return replace(self, name=name, command=(*self.command, self.member_option, member), member_option=None)


PROCESSES = (
    ProcessSpec(name="gateway", command=("gateway",), database_role="tidegate_read"),
    ProcessSpec(name="persistence", command=("processors", "persistence"), database_role="tidegate_write"),
    ProcessSpec(name="fanout", command=("processors", "fanout"), database_role=None),
    ProcessSpec(name="maintenance", command=("processors", "maintenance"), database_role="tidegate_maintain"),
    ProcessSpec(
        name="evaluation", command=("processors", "evaluation"), database_role=None, member_option="--endpoint"
    ),
    ProcessSpec(name="events", command=("processors", "events"), database_role="tidegate_write"),
    ProcessSpec(
        name="processing", command=("processors", "processing"), database_role="tidegate_write", is_optional=True
    ),
    ProcessSpec(name="sink", command=("processors", "sink"), database_role=None, member_option="--name"),
    ProcessSpec(name="jobs-intake", command=("processors", "jobs-intake"), database_role="tidegate_jobs"),
    ProcessSpec(name="executor", command=("processors", "executor"), database_role="tidegate_jobs", has_log=False),
    *(
        ProcessSpec(
            name=f"{DOCUMENTS}-{stage}",
            command=("processors", f"{DOCUMENTS}-{stage}"),
            database_role="tidegate_documents",
            extra=DOCUMENTS,
        )
        for stage in ("intake", "embed", "store")
    ),
    ProcessSpec(name="archive", command=("processors", "archive"), database_role=None, member_option="--topic"),
)
"""In the order in which they start."""

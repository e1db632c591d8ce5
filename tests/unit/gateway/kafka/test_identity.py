"""The gateway notices that run.events was deleted, or deleted and created again."""

from gateway.errors import LogUnavailable, StoreUnavailable
from gateway.kafka.identity import LogIdentity
from tests.support.fakes import MemoryLog, MemoryRunStore

OLD, NEW = "old".ljust(22, "-"), "new".ljust(22, "-")


class Named(MemoryLog):
    """A log whose topic has the id that the test names."""

    named: str | None = OLD

    async def topic_id(self, topic: str) -> str | None:
        await super().topic_id(topic)
        return self.named


async def test_a_topic_that_changes_is_a_problem_until_the_store_has_accepted_it() -> None:
    log, store = Named(), MemoryRunStore("demo")
    identity = LogIdentity(["run.events"], log, store)
    await identity.refresh()
    assert identity.problem is None, "nothing is remembered yet"
    log.named = None
    await identity.refresh()
    assert "does not exist" in (identity.problem or "")
    log.named = NEW
    await identity.refresh()
    assert "deleted and created again: run `tidegate topics accept`" in (identity.problem or "")
    store.topic_ids = {"run.events": NEW}
    await identity.refresh()
    assert identity.problem is None


async def test_a_gateway_that_starts_later_goes_by_what_the_store_remembers() -> None:
    identity = LogIdentity(["run.events"], Named(), MemoryRunStore("demo", topic_ids={"run.events": NEW}))
    await identity.refresh()
    assert identity.problem is not None


async def test_what_does_not_answer_counts_as_unchanged() -> None:
    log, store = Named(), MemoryRunStore("demo", topic_ids={"run.events": OLD})
    identity = LogIdentity(["run.events"], log, store)
    await identity.refresh()
    log.failure, store.failure = LogUnavailable("away"), StoreUnavailable("away")
    await identity.refresh()
    assert identity.problem is None

"""Waiting until a consumer group has handled what lies in the log."""

from deploy.admin import positions
from schemas.kafka.topics import Group
from tests.support.stack import RunningStack, wait_until

HANDLED_WITHIN_S = 120.0


def wait_until_handled(stack: RunningStack, group: Group) -> None:
    """Wait until *group* has committed past every record that its topics hold now."""

    def is_handled() -> bool:
        found = [each for each in positions.examine(stack.kafka) if each.group == group]
        return bool(found) and all((each.position.offset or 0) >= each.log.stable_end for each in found)

    wait_until(is_handled, timeout_s=HANDLED_WITHIN_S, what=f"{group.name} to have handled everything")

"""The file of event types."""

from pathlib import Path

import pytest

from schemas.events.properties import PropertyType
from schemas.events.types_file import EventTypes, EventTypesSettings, parse, read
from schemas.process.settings import SettingsInvalid

TEXT = """
[types.order_completed]
function = "shop.events:on_order"
properties = {"cart.total" = "number"}

[types."page.view"]
"""


def test_a_type_has_a_function_and_properties() -> None:
    found = parse(TEXT)
    assert found.functions == {"order_completed": "shop.events:on_order"}
    assert found.schemas == {"order_completed": {"cart.total": PropertyType.NUMBER}}
    assert read(EventTypesSettings()) == EventTypes()


@pytest.mark.parametrize(
    "text",
    [
        "[types",
        "[types.Order]",
        '[types.a]\nfunction = "shop"',
        '[types.a]\nfunction = "shop:on order"',
        '[types.a]\nproperties = {"x" = "money"}',
        "[types.a]\nother = 1",
        "[others]",
    ],
)
def test_what_cannot_be_right_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "types.toml"
    path.write_text(text)
    with pytest.raises(SettingsInvalid, match=r"types\.toml"):
        read(EventTypesSettings(path=path))
    with pytest.raises(SettingsInvalid):
        read(EventTypesSettings(path=tmp_path / "none.toml"))

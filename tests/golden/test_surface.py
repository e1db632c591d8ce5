"""What others see of Tidegate changes on purpose only: `make golden` writes it, and the difference is reviewed."""

import pytest

from tests.golden.surface import FOLDER, surface


@pytest.mark.parametrize("name", surface())
def test_what_others_see_is_as_it_was(name: str) -> None:
    assert surface()[name] == (FOLDER / name).read_text(), f"if {name} is to change, run `make golden` and review it"

"""What is too large for the log, and what refers to it."""

import hashlib

import pytest

from schemas.objects.references import INLINE_BYTES_MAX, from_json, is_content_of, is_large, reference_to, to_json


@pytest.mark.parametrize("character", ["x", "é", "水", "🌊"])
def test_large_is_what_has_more_bytes_than_the_bound(character: str) -> None:
    """Bytes of UTF-8, not characters."""
    width = len(character.encode())
    filler, rest = divmod(INLINE_BYTES_MAX, width)
    at_the_bound = character * filler + "x" * rest
    assert len(at_the_bound.encode()) == INLINE_BYTES_MAX
    assert (is_large(at_the_bound), is_large(at_the_bound + "x")) == (False, True)


def test_an_object_is_named_after_its_run_and_its_content() -> None:
    """The layout is what lets a run's objects be listed; it may never change for objects that are kept."""
    reference = reference_to(b"[1.00]", tenant="demo", run_id="run:1.a")
    assert reference.key == f"demo/run:1.a/{hashlib.sha256(b'[1.00]').hexdigest()}"
    assert (reference.size_bytes, reference.sha256) == (6, hashlib.sha256(b"[1.00]").digest())
    assert is_content_of(reference, b"[1.00]")
    assert not is_content_of(reference, b"[1.0 ]")
    assert not is_content_of(reference, b"[1.00] ")


def test_a_reference_is_told_in_json() -> None:
    reference = reference_to(b"[1.00]", tenant="demo", run_id="run-1")
    text = to_json(reference)
    assert text == f'{{"key":"{reference.key}","size_bytes":6,"sha256":"{reference.sha256.hex()}"}}'
    assert from_json(text) == reference

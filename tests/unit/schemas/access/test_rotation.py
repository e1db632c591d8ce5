"""Which secret signs and which verify while an operator rotates them."""

from schemas.access.rotation import ACCEPT_REMOVED_S, REMOVED_MAX, SIGN_AFTER_S, MacSecrets


def test_at_its_start_a_process_signs_with_the_first_secret() -> None:
    assert MacSecrets(["a", "b"]).in_force(now_s=0) == ["a", "b"]


def test_a_new_first_secret_verifies_at_once_and_signs_after_the_delay() -> None:
    secrets = MacSecrets(["old"])
    secrets.update(["new", "old"], now_s=10)
    assert secrets.in_force(now_s=10) == ["old", "new"]
    assert secrets.in_force(now_s=10 + SIGN_AFTER_S - 0.1)[0] == "old"
    assert secrets.in_force(now_s=10 + SIGN_AFTER_S) == ["new", "old"]


def test_a_secret_that_was_known_as_the_second_signs_at_once_when_it_becomes_the_first() -> None:
    secrets = MacSecrets(["old"])
    secrets.update(["old", "new"], now_s=10)
    secrets.update(["new", "old"], now_s=100)
    assert secrets.in_force(now_s=100) == ["new", "old"]


def test_a_removed_secret_signs_during_the_delay_and_verifies_for_the_grace_time() -> None:
    """Elsewhere the new one may not be known yet, and the old one may still be used."""
    secrets = MacSecrets(["old"])
    secrets.update(["new"], now_s=10)
    assert secrets.in_force(now_s=10) == ["old", "new"]
    assert secrets.in_force(now_s=10 + SIGN_AFTER_S) == ["new", "old"]
    assert secrets.in_force(now_s=10 + ACCEPT_REMOVED_S - 0.1) == ["new", "old"]
    assert secrets.in_force(now_s=10 + ACCEPT_REMOVED_S) == ["new"]


def test_the_secret_that_signs_verifies_everywhere_however_fast_they_are_replaced() -> None:
    """Two processes that read the file at different moments; each replacement drops the secret before it."""
    gateway, verifier = MacSecrets(["0"]), MacSecrets(["0"])
    for second in range(1, 30):
        gateway.update([str(second)], now_s=second)
        signing = gateway.in_force(now_s=second)[0]
        assert signing in verifier.in_force(now_s=second + 0.9)  # it has not read the newest file yet
        verifier.update([str(second)], now_s=second + 0.9)
        assert signing in verifier.in_force(now_s=second + 0.9)


def test_what_verifies_is_bounded() -> None:
    secrets = MacSecrets(["0"])
    for number in range(1, 1000):
        secrets.update([str(number)], now_s=number / 1000)
        assert len(secrets.in_force(now_s=number / 1000)) <= REMOVED_MAX + 2


def test_a_secret_that_comes_back_is_no_longer_removed() -> None:
    secrets = MacSecrets(["a"])
    secrets.update(["b"], now_s=10)
    secrets.update(["a", "b"], now_s=20)
    assert secrets.in_force(now_s=1000) == ["a", "b"]

"""Secrets are not shown."""

from deploy.cli.config import without_secrets


def test_secrets_and_passwords_are_masked() -> None:
    settings = {
        "TIDEGATE_POSTGRES": "postgresql://tidegate:hunter2@127.0.0.1:5432/tidegate",
        "TIDEGATE_API_KEY": "tg_1_2",
        "TIDEGATE_EVALUATION_SECRET": "x",
        "TIDEGATE_KAFKA": "127.0.0.1:9092",
    }
    assert without_secrets(settings) == {
        "TIDEGATE_POSTGRES": "postgresql://tidegate:***@127.0.0.1:5432/tidegate",
        "TIDEGATE_API_KEY": "***",
        "TIDEGATE_EVALUATION_SECRET": "***",
        "TIDEGATE_KAFKA": "127.0.0.1:9092",
    }

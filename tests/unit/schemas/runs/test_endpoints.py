from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.process.settings import SettingsInvalid
from schemas.runs import endpoints
from schemas.runs.endpoints import EndpointsInvalid, EndpointsSettings, is_wanted, parse, watch
from schemas.runs.records import EnvironmentCaptured, RunFinalized, RunStatus
from tests.support.builders import event, run_event

SECRET = endpoints.new_secret()


def text(more: str = "") -> str:
    return f'[endpoints.scorer]\nurl = "https://example.org/hook"\nsecrets = ["{SECRET}"]\n{more}'


def test_an_endpoint_needs_an_address_and_a_secret_alone() -> None:
    [endpoint] = parse(text()).endpoints.values()
    assert (endpoint.types, endpoint.tenant, endpoint.retries_s) == (("*",), None, (1.0, 2.0, 4.0))
    assert endpoint.delays == ("30s", "5m", "1h")


@pytest.mark.parametrize(
    "more",
    [
        "concurrency = 0",
        'types = ["UPPER"]',
        "types = []",
        'delays = ["30"]',
        'headers = {webhook-id = "x"}',
        'headers = {Host = "x"}',
        'headers = {X-Tenant = "a\\r\\nb"}',
        'surprise = "field"',
        "retries_s = []",
        "timeout_s = 1e9",
    ],
)
def test_what_an_endpoint_may_not_say_is_refused(more: str) -> None:
    with pytest.raises(EndpointsInvalid):
        parse(text(more))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64 but long enough to be one....."])
def test_a_weak_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(EndpointsInvalid) as caught:
        parse(text().replace(SECRET, secret))
    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in str(caught.value)


@pytest.mark.parametrize("name", ["Upper", "a.b", "", "-x", "a" * 64])
def test_an_endpoints_name_fits_into_a_topics(name: str) -> None:
    with pytest.raises(EndpointsInvalid):
        parse(text().replace("endpoints.scorer", f'endpoints."{name}"'))


def test_settings_alone_describe_one_endpoint() -> None:
    current = watch(EndpointsSettings(url="https://example.org", secret=SECRET))
    assert list(current().endpoints) == ["default"]
    assert watch(EndpointsSettings())().endpoints == {}


def test_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="TIDEGATE_EVALUATION_SECRET"):
        watch(EndpointsSettings(url="https://example.org", secret="short"))
    with pytest.raises(SettingsInvalid, match="TIDEGATE_ENDPOINTS"):
        watch(EndpointsSettings(file=tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        (["*"], True),
        (["tool.call"], True),
        (["tool.*"], True),
        (["tool"], False),
        (["tool.*.x"], False),
        (["message", "tool.call"], True),
        (["run_finalized"], False),
    ],
)
def test_events_are_asked_for_by_type(types: list[str], *, wanted: bool) -> None:
    record = run_event(event(type="tool.call"))
    assert is_wanted(record, tenant=None, types=types) is wanted
    assert is_wanted(record, tenant=record.tenant, types=types) is wanted
    assert not is_wanted(record, tenant="other", types=types)


def test_the_end_of_a_run_is_asked_for_by_its_own_name_and_its_environment_not_at_all() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    end = RunFinalized(tenant="demo", run_id="r", status=RunStatus.FAILED, finalized_at=now)
    environment = EnvironmentCaptured(
        tenant="demo", run_id="r", environment="{}", environment_sha256=bytes(32), captured_at=now
    )
    assert is_wanted(end, tenant=None, types=["run_finalized"])
    assert not is_wanted(end, tenant=None, types=["message"])
    assert not is_wanted(environment, tenant=None, types=["*"])


@pytest.mark.parametrize("secret", ["whsec_replacemereplacemereplacemereplaceme", "whsec_" + "A" * 44, "change-me"])
def test_a_placeholder_is_no_secret(secret: str) -> None:
    with pytest.raises(EndpointsInvalid, match=r"endpoint scorer: secrets\[0\] (is a placeholder|has 1 different)"):
        parse(text().replace(SECRET, secret))


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.toml"
    path.write_text(text())
    path.chmod(0o644)
    with pytest.raises(SettingsInvalid, match=f"TIDEGATE_ENDPOINTS: {path} .* mode 0644.*chmod 600"):
        watch(EndpointsSettings(file=path))
    path.chmod(0o640)
    assert list(watch(EndpointsSettings(file=path))().endpoints) == ["scorer"]

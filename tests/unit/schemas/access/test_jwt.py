"""Tokens: what is taken, and every attack that is known of."""

import hashlib
import hmac
import json
import warnings
from datetime import UTC, datetime
from typing import Any

import pytest
from joserfc import jwk

from schemas.access import jwt
from schemas.access.issuers import Algorithm, Denial, Issuer, denial_fault, issuer_fault
from schemas.access.jwt import Keys, KeysInvalid, TokenRefused, UnknownKey
from tests.support.tokens import AUDIENCE, NOW_S, SECRET, claims, jwks, of_address, of_secret, part, secret_key, token

NOW = datetime.fromtimestamp(NOW_S, UTC)
SHARED = of_secret()
with warnings.catch_warnings(action="ignore"):
    RSA, OTHER_RSA, SMALL_RSA = (jwk.RSAKey.generate_key(bits, {"kid": "k1"}) for bits in (2048, 2048, 1024))
EC, EC_384 = jwk.ECKey.generate_key("P-256", {"kid": "e1"}), jwk.ECKey.generate_key("P-384", {"kid": "e1"})
ED = jwk.OKPKey.generate_key("Ed25519", {"kid": "d1"})
PUBLIC = of_address("https://login.example.com/keys", algorithms=list(Algorithm)[3:])


def accepted(text: str, issuer: Issuer = SHARED, keys: Keys | None = None, **more: Any) -> jwt.Identity:
    name, found = jwt.issuer_of(text, {"main": issuer})
    return jwt.verify(text, name, found, keys or jwt.keys_of_secret(issuer), now=NOW, **more)


def refused(text: str, issuer: Issuer = SHARED, keys: Keys | None = None, **more: Any) -> str:
    with pytest.raises(TokenRefused) as error:
        accepted(text, issuer, keys, **more)
    return str(error.value)


def test_a_valid_token_says_whose_it_is() -> None:
    found = accepted(token(secret_key()))
    assert (found.issuer, found.tenant, found.subject, found.scopes) == ("main", "demo", "auth0|5f7c", None)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (RSA, "PS256"), (EC, "ES256"), (ED, "EdDSA")],
)
def test_a_public_key_verifies(key: Any, algorithm: str) -> None:
    keys = jwt.keys_in(jwks(RSA, EC, ED), PUBLIC)
    kid = key.as_dict(private=False)["kid"]
    assert accepted(token(key, algorithm=algorithm, header={"kid": kid}), PUBLIC, keys).subject == "auth0|5f7c"
    pem = key.as_pem(private=False).decode()
    assert accepted(token(key, algorithm=algorithm), PUBLIC, jwt.keys_in(pem, PUBLIC))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None}, {"exp": "1793000600"}, {"exp": True}, {"exp": -1}, {"exp": 10**15}, {"exp": NOW_S - 60},
        {"iat": NOW_S + 61}, {"iat": "now"}, {"nbf": NOW_S + 61}, {"nbf": []},
        {"iss": "https://login.example.com"}, {"iss": ["https://login.example.com/"]}, {"iss": None},
        {"aud": None}, {"aud": "tide"}, {"aud": {"tidegate": 1}}, {"aud": ["x", 1]}, {"aud": [["tidegate"]]},
        {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": "a\u0007b"}, {"sub": "x" * 256},
    ],
)  # fmt: skip
def test_claims_that_are_not_as_they_must_be(changes: dict[str, Any]) -> None:
    refused(token(secret_key(), **changes))


@pytest.mark.parametrize(
    "changes", [{"exp": NOW_S - 59}, {"iat": NOW_S + 59}, {"nbf": NOW_S + 59}, {"aud": ["x", AUDIENCE]}]
)
def test_clocks_may_differ_by_a_minute(changes: dict[str, Any]) -> None:
    assert accepted(token(secret_key(), **changes))


@pytest.mark.parametrize("exponent", [b"NaN", b"1e400", b"Infinity", b"null"])
def test_times_that_are_no_json(exponent: bytes) -> None:
    payload = json.dumps(claims(exp=0)).encode().replace(b'"exp": 0', b'"exp": ' + exponent)
    refused(token(secret_key(), payload=payload))


@pytest.mark.parametrize("algorithm", ["none", "NoNe", "HS384", "RS256", "", None, 1])
def test_other_algorithms_than_the_issuers(algorithm: object) -> None:
    unsigned = f"{part({'alg': algorithm})}.{part(claims())}."
    refused(unsigned)
    refused(unsigned + "eA")


def test_a_public_key_is_no_secret() -> None:
    """RFC 8725, 2.1: HS256 with the public key in each of its forms."""
    keys = jwt.keys_in(jwks(RSA), PUBLIC)
    forms = [RSA.as_pem(private=False), RSA.as_der(private=False), jwks(RSA).encode()]
    for form in forms:
        head = f"{part({'alg': 'HS256', 'kid': 'k1'})}.{part(claims())}"
        signature = part(hmac.new(form, head.encode(), hashlib.sha256).digest())
        assert "alg" in refused(f"{head}.{signature}", PUBLIC, keys)


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "x5c", "crit", "b64"])
def test_a_token_does_not_bring_its_key(header: str) -> None:
    key = secret_key()
    given = {"jwk": key.as_dict(), "crit": [], "b64": True}.get(header, "https://evil.example.com/keys")
    head = part({"alg": "HS256", header: given})
    body = f"{head}.{part(claims())}"
    signature = part(hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).digest())
    assert header in refused(f"{body}.{signature}")


@pytest.mark.parametrize("kind", ["logout+jwt", "JWE", "secevent+jwt", 7])
def test_tokens_of_another_kind(kind: object) -> None:
    refused(token(secret_key(), header={"typ": kind}) if isinstance(kind, str) else _forged({"typ": kind}))
    assert accepted(token(secret_key(), header={"typ": "JWT"}))
    only = of_secret(type_required="at+jwt")
    refused(token(secret_key(), header={"typ": "JWT"}), only)
    assert accepted(token(secret_key(), header={"typ": "at+jwt"}), only)


def _forged(header: dict[str, Any]) -> str:
    body = f"{part({'alg': 'HS256', **header})}.{part(claims())}"
    return f"{body}.{part(hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "k" * 600, 7, None, ["k1"], "k2", ""])
def test_a_kid_is_compared_and_nothing_else(kid: object) -> None:
    keys = jwt.keys_in(jwks(RSA, OTHER_RSA), of_address("https://x.example.com"))
    head = part({"alg": "RS256", "kid": kid})
    refused(f"{head}.{part(claims())}.eA", of_address("https://x.example.com"), keys)


def test_a_key_of_another_algorithm_does_not_verify() -> None:
    only_rs = of_address("https://x.example.com", algorithms=[Algorithm.RS256, Algorithm.PS256])
    keys = jwt.keys_in(jwks(RSA, alg="RS256"), only_rs)
    with pytest.raises(UnknownKey):
        accepted(token(RSA, algorithm="PS256", header={"kid": "k1"}), only_rs, keys)


def test_without_a_kid_exactly_one_key_must_fit() -> None:
    issuer = of_address("https://x.example.com")
    assert accepted(token(RSA, algorithm="RS256"), issuer, jwt.keys_in(jwks(RSA, EC), issuer))
    with pytest.raises(UnknownKey):
        accepted(token(RSA, algorithm="RS256"), issuer, jwt.keys_in(jwks(RSA, OTHER_RSA), issuer))


@pytest.mark.parametrize("signature", ["", "eA", part(b"\0" * 64), part(b"\0" * 32)])
def test_signatures_that_are_none(signature: str) -> None:
    es = of_address("https://x.example.com", algorithms=[Algorithm.ES256])
    body = f"{part({'alg': 'ES256'})}.{part(claims())}"
    refused(f"{body}.{signature}", es, jwt.keys_in(jwks(EC), es))
    refused(f"{part({'alg': 'HS256'})}.{part(claims())}.{signature}")


def test_a_changed_part_breaks_the_signature() -> None:
    head, body, signature = token(secret_key()).split(".")
    other = part(claims(sub="somebody else"))
    for changed in (f"{part({'alg': 'HS256', 'kid': 'x'})}.{body}.{signature}", f"{head}.{other}.{signature}"):
        refused(changed)
    refused(token(secret_key("another secret of thirty-two bytes")))


@pytest.mark.parametrize("change", ["{}=", "{}\n", " {}", "{}.x", "{}é", "x.{}", "{}.{}"])
def test_the_form_is_exact(change: str) -> None:
    text = token(secret_key())
    refused(change.format(text, text))


def test_tokens_are_bounded() -> None:
    refused(token(secret_key(), padding="x" * jwt.TOKEN_BYTES_MAX))
    refused("a" * 10_000_000)
    for depth in (65, 1500, 2900):
        nested = (
            json.dumps(claims(nested=0)).encode().replace(b'"nested": 0', b'"nested": ' + b"[" * depth + b"]" * depth)
        )
        refused(token(secret_key(), payload=nested))


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(claims())[:-1].encode() + b', "sub": "somebody else"}',
        json.dumps(claims()).encode().replace(b"auth0|5f7c", b"\\ud800"),
        json.dumps(claims()).encode().replace(b"auth0|5f7c", b"\\u0000"),
        json.dumps(claims()).encode().replace(b"auth0|5f7c", b"\xff"),
        b"\xef\xbb\xbf" + json.dumps(claims()).encode(),
        json.dumps([claims()]).encode(),
        b"",
        b"text",
    ],
)
def test_claims_that_others_might_read_otherwise(payload: bytes) -> None:
    refused(token(secret_key(), payload=payload))


def test_an_issuer_verifies_with_its_own_keys_alone() -> None:
    other = of_secret(iss="https://other.example.com/", secret="a different secret of 32 bytes..", tenant="other")
    issuers = {"main": SHARED, "other": other}
    swapped = token(secret_key(), iss=other.iss)
    name, found = jwt.issuer_of(swapped, issuers)
    assert name == "other"
    with pytest.raises(TokenRefused):
        jwt.verify(swapped, name, found, jwt.keys_of_secret(found), now=NOW)


def test_a_tenant_is_one_of_the_issuers_list() -> None:
    issuer = of_secret(tenant=None, tenant_claim="org", tenants=["a", "b"])
    assert accepted(token(secret_key(), org="b"), issuer).tenant == "b"
    for org in ("c", None, ["a"], 7):
        refused(token(secret_key(), org=org), issuer)


@pytest.mark.parametrize(
    ("given", "found"),
    [("events:read openid", {"events:read"}), (["events:write", "x"], {"events:write"}), ("", set()), (None, set())],
)
def test_scopes_are_those_that_we_know(given: object, found: set[str]) -> None:
    assert accepted(token(secret_key(), scope=given), of_secret(scope_claim="scope")).scopes == found
    refused(token(secret_key(), scope=7), of_secret(scope_claim="scope"))


def test_a_life_may_be_bounded() -> None:
    issuer = of_secret(lifetime_s_max=700)
    assert accepted(token(secret_key()), issuer)
    refused(token(secret_key(), exp=NOW_S + 691), issuer)
    refused(token(secret_key(), iat=None), issuer)


def test_who_is_denied() -> None:
    early = Denial(issuer="main", sub="auth0|5f7c", issued_before=NOW)
    assert refused(token(secret_key()), denials=[early]) == "denied"
    assert accepted(token(secret_key(), iat=NOW_S), denials=[early])
    assert refused(token(secret_key(), iat=None), denials=[early]) == "denied", "it may be older"
    assert refused(token(secret_key(), jti="t1"), denials=[Denial(issuer="main", jti="t1")]) == "denied"
    assert accepted(token(secret_key(), jti="t2"), denials=[Denial(issuer="main", jti="t1")])
    assert accepted(token(secret_key()), denials=[Denial(issuer="other", sub="auth0|5f7c")])


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"keys": {}}', '{"keys": []}', "<html>", jwks(SMALL_RSA), jwks(EC_384)]
)
def test_key_sets_without_a_usable_key(text: str) -> None:
    with pytest.raises(KeysInvalid):
        jwt.keys_in(text, of_address("https://x.example.com", algorithms=[Algorithm.RS256, Algorithm.ES256]))


def test_keys_of_other_kinds_are_passed_over() -> None:
    document = json.loads(jwks(RSA))
    document["keys"] += [{"kty": "new"}, "text", {"kty": "RSA"}, {**document["keys"][0], "use": "enc", "kid": "k9"}]
    assert [key.kid for key in jwt.keys_in(json.dumps(document), of_address("https://x.example.com"))] == ["k1"]
    with pytest.raises(KeysInvalid):
        jwt.keys_in(json.dumps({"keys": document["keys"][:1] * 65}), of_address("https://x.example.com"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"secret": "short"}, "less than 32 bytes"),
        ({"jwks_file": "/x"}, "no second one"),
        ({"secret": None}, "names one of"),
        ({"algorithms": [Algorithm.HS256, Algorithm.RS256]}, "mixes"),
        ({"tenant": None}, "names a tenant"),
        ({"tenants": ["a"]}, "none without that claim"),
        ({"tenant": None, "tenant_claim": "org"}, "lists the tenants"),
    ],
)
def test_an_issuer_that_cannot_be_right_is_refused_at_load(changes: dict[str, Any], said: str) -> None:
    assert said in (issuer_fault(of_secret(**changes)) or "")
    assert issuer_fault(of_secret()) is None
    assert denial_fault(Denial(issuer="main")) is not None

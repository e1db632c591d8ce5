"""Tokens as issuers make them, and as attackers do."""

import base64
import json
import warnings
from collections.abc import Mapping
from typing import Any

from joserfc import jwk, jws

from schemas.access.issuers import Algorithm, Issuer

ISS = "https://login.example.com/"
AUDIENCE = "tidegate"
SECRET = "4f1d0c5b9a7e3f2d8c6b5a4938271605"
NOW_S = 1_793_000_000


def part(content: bytes | Mapping[str, Any]) -> str:
    """Return a part of a token."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def claims(**changes: Any) -> dict[str, Any]:
    """Return claims that are valid at `NOW_S`; None leaves one out."""
    base = {"iss": ISS, "aud": AUDIENCE, "sub": "auth0|5f7c", "exp": NOW_S + 600, "iat": NOW_S - 10}
    return {name: value for name, value in (base | changes).items() if value is not None}


def token(
    key: Any,
    *,
    algorithm: str = "HS256",
    header: Mapping[str, Any] | None = None,
    payload: bytes | None = None,
    **changes: Any,
) -> str:
    """Return a token signed with *key*."""
    body = json.dumps(claims(**changes)).encode() if payload is None else payload
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    with warnings.catch_warnings(action="ignore"):
        return jws.serialize_compact(
            {"alg": algorithm, **(header or {})}, body, key, algorithms=[algorithm], registry=registry
        )


def of_secret(**changes: Any) -> Issuer:
    """Return an issuer that shares `SECRET` with us."""
    base: dict[str, Any] = {"iss": ISS, "audiences": [AUDIENCE], "algorithms": [Algorithm.HS256], "secret": SECRET}
    return Issuer(**({"tenant": "demo"} | base | changes))


def of_address(url: str, **changes: Any) -> Issuer:
    """Return an issuer whose public keys are at *url*."""
    base: dict[str, Any] = {"iss": ISS, "audiences": [AUDIENCE], "algorithms": [Algorithm.RS256], "jwks_url": url}
    return Issuer(**({"tenant": "demo"} | base | changes))


def secret_key(secret: str = SECRET) -> Any:
    """Return the key of a shared secret."""
    return jwk.OctKey.import_key(secret)


def jwks(*keys: Any, **more: Any) -> str:
    """Return the JWK Set of the public halves of *keys*, each with what *more* says beside it."""
    return json.dumps({"keys": [{**key.as_dict(private=False), **more} for key in keys]})

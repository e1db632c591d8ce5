"""
JSON Web Tokens: who sends one, and what it may do (RFC 7519, 8725). Pure: keys and time are given.

Why joserfc for the signature alone: of the libraries it refused the most of what is wrong with a token. What it leaves
to its caller is checked here, before and after: size and form, header, claims, nesting, duplicates.
"""

import base64
import binascii
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from joserfc import jwk, jws
from joserfc.errors import JoseError

from schemas import strictjson
from schemas.access.issuers import Algorithm, Denial, Issuer
from schemas.errors import Invalid
from schemas.texts import label_fault

TOKEN_BYTES_MAX = 8 * 1024
LEEWAY_S = 60.0
KEYS_MAX = 64
RSA_BITS_MIN = 2048
MOMENT_MAX = 253_402_300_799  # the last second of the year 9999

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
# Where a key would come from that the token itself names, and extensions that a verifier must know.
_REFUSED_HEADERS = ("jku", "x5u", "jwk", "x5c", "crit", "b64")
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_SCOPES = ("events:write", "events:read", "events:admin")


class TokenRefused(ValueError):
    """The token is not valid. Answer 401; the text is for logs and for who checks a token, not for its sender."""


class KeysInvalid(ValueError):
    """The keys of an issuer cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """A key that verifies tokens of one issuer."""

    kid: str | None
    algorithms: frozenset[Algorithm]
    key: Any  # joserfc's


Keys = Sequence[VerificationKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity that a valid token proves."""

    issuer: str  # its name in the credentials file
    tenant: str
    subject: str
    scopes: frozenset[str] | None  # None: its issuer has no scopes
    expires_at_s: float  # since the epoch


class UnknownKey(TokenRefused):
    """No key of the issuer fits the token: one may have come since its keys were read."""


def issuer_of(token: str, issuers: Mapping[str, Issuer]) -> tuple[str, Issuer]:
    """
    Return the issuer that *token* names; nothing of it is verified yet.

    Raises:
        TokenRefused: it has no form of a token, or names no issuer of ours.
    """
    if len(token) > TOKEN_BYTES_MAX:
        raise TokenRefused(f"longer than {TOKEN_BYTES_MAX} bytes")
    if not _FORM.match(token):
        raise TokenRefused("no compact JWS: three parts of base64url, without padding")
    iss = _object(token.split(".")[1], "claims").get("iss")
    for name, issuer in issuers.items():
        if issuer.iss == iss:
            return name, issuer
    raise TokenRefused("iss is no issuer of ours")


def verify(
    token: str, name: str, issuer: Issuer, keys: Keys, *, now: datetime, denials: Sequence[Denial] = ()
) -> Identity:
    """
    Return the identity in *token*, which names *issuer*.

    Raises:
        UnknownKey: none of *keys* fits it.
        TokenRefused: it is not valid.
    """
    algorithm, kid = _header(token, issuer)
    key = _key(keys, algorithm, kid)
    try:
        with warnings.catch_warnings(action="ignore"):  # EdDSA has another name since RFC 9864
            jws.deserialize_compact(token, key.key, algorithms=[algorithm.value])
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise TokenRefused(f"the signature does not verify: {type(error).__name__}") from None
    claims = _object(token.split(".")[1], "claims")
    expires_at_s = _check_times(claims, issuer, now.timestamp())
    _check_audience(claims, issuer)
    if claims.get("iss") != issuer.iss:
        raise TokenRefused("iss is of another issuer")
    subject = claims.get(issuer.user_claim)
    if not isinstance(claims.get("sub"), str) or not isinstance(subject, str) or label_fault(subject):
        raise TokenRefused(f"sub and {issuer.user_claim} must be texts of 1 to 255 characters without controls")
    if any(_denies(denial, name, claims) for denial in denials):
        raise TokenRefused("denied")
    return Identity(
        issuer=name,
        tenant=_tenant(claims, issuer),
        subject=subject,
        scopes=_scopes(claims, issuer),
        expires_at_s=expires_at_s,
    )


def keys_of_secret(issuer: Issuer) -> Keys:
    """Return the one key of an issuer that shares a secret with us."""
    key = jwk.OctKey.import_key(issuer.secret or "")
    return [VerificationKey(kid=None, algorithms=frozenset(issuer.algorithms), key=key)]


def keys_in(text: str, issuer: Issuer) -> Keys:
    """
    Return the keys in *text*, a JWK Set or one public key in PEM; those of other kinds than the issuer's are left out.

    Raises:
        KeysInvalid: no keys, too many, or none that fits.
    """
    if text.lstrip().startswith("-----BEGIN"):
        return _usable([(None, None, _imported(text))], issuer)
    try:
        document = strictjson.decode(text)
    except (Invalid, strictjson.NotJson) as error:
        raise KeysInvalid(f"not a JWK Set: {error}") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise KeysInvalid(f"not a JWK Set: an object with at most {KEYS_MAX} `keys`")
    signing = [entry for entry in entries if isinstance(entry, dict) and entry.get("use", "sig") == "sig"]
    return _usable([(entry.get("kid"), entry.get("alg"), _imported(entry)) for entry in signing], issuer)


def _imported(source: Any) -> Any:
    """Return joserfc's key; None for one of a kind that it does not know, which others may have use for."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of weak keys, which are left out below
            return jwk.import_key(source) if isinstance(source, dict) else _of_pem(source)
    except (JoseError, ValueError, TypeError):
        return None


def _of_pem(text: str) -> Any:
    for kind in (jwk.RSAKey, jwk.ECKey, jwk.OKPKey):
        try:
            return kind.import_key(text)
        except (JoseError, ValueError, TypeError):
            continue
    return None


def _usable(found: Sequence[tuple[object, object, Any]], issuer: Issuer) -> Keys:
    keys = []
    for kid, named, key in found:
        fitting = frozenset(
            algorithm
            for algorithm in issuer.algorithms
            if key is not None and _fits(algorithm, key) and named in (None, algorithm.value)
        )
        if fitting:
            keys.append(VerificationKey(kid=kid if isinstance(kid, str) else None, algorithms=fitting, key=key))
    if not keys:
        raise KeysInvalid(f"no public key for {', '.join(issuer.algorithms)}")
    return keys


_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}


def _fits(algorithm: Algorithm, key: Any) -> bool:
    if algorithm.is_symmetric or getattr(key, "is_private", False):
        return False
    if algorithm.value[:2] in ("RS", "PS"):
        return key.key_type == "RSA" and int(key.public_key.key_size) >= RSA_BITS_MIN
    return key.key_type in ("EC", "OKP") and key.curve_name == _CURVES[algorithm.value]


def _header(token: str, issuer: Issuer) -> tuple[Algorithm, str | None]:
    header = _object(token.split(".", maxsplit=1)[0], "header")
    if named := [name for name in _REFUSED_HEADERS if name in header]:
        raise TokenRefused(f"header {named[0]} is not taken")
    kind = header.get("typ")
    if issuer.type_required is not None and kind != issuer.type_required:
        raise TokenRefused(f"typ is not {issuer.type_required}")
    if kind is not None and (not isinstance(kind, str) or kind.lower() not in _TYPES):
        raise TokenRefused("typ is of another kind of token")
    given = header.get("alg")
    algorithm = next((each for each in issuer.algorithms if each.value == given), None)
    if algorithm is None:
        raise TokenRefused("the issuer does not use this alg")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise TokenRefused("kid is not a text")
    return algorithm, kid


def _key(keys: Keys, algorithm: Algorithm, kid: str | None) -> VerificationKey:
    fitting = [key for key in keys if algorithm in key.algorithms]
    if kid is not None and any(key.kid is not None for key in fitting):
        fitting = [key for key in fitting if key.kid == kid]
    if len(fitting) != 1:
        raise UnknownKey("no key of that kid" if kid is not None else "no kid, and not exactly one key fits")
    return fitting[0]


def _object(part: str, what: str) -> Mapping[str, Any]:
    try:
        text = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
        found = strictjson.decode(text)
    except (binascii.Error, UnicodeDecodeError, Invalid, strictjson.NotJson):
        raise TokenRefused(f"the {what} are not a JSON object that can be read") from None
    if not isinstance(found, dict):
        raise TokenRefused(f"the {what} are not a JSON object")
    return found


def _check_times(claims: Mapping[str, Any], issuer: Issuer, now_s: float) -> float:
    expires_at_s = _moment(claims, "exp")
    if expires_at_s is None:
        raise TokenRefused("exp is required")
    if now_s >= expires_at_s + LEEWAY_S:
        raise TokenRefused("expired")
    begins_at_s, issued_at_s = _moment(claims, "nbf"), _moment(claims, "iat")
    if begins_at_s is not None and now_s < begins_at_s - LEEWAY_S:
        raise TokenRefused("not valid yet")
    if issued_at_s is not None and now_s < issued_at_s - LEEWAY_S:
        raise TokenRefused("issued in the future")
    if issuer.lifetime_s_max is not None and (
        issued_at_s is None or expires_at_s - issued_at_s > issuer.lifetime_s_max
    ):
        raise TokenRefused(f"lives longer than {issuer.lifetime_s_max} s, or does not say since when")
    return expires_at_s


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= MOMENT_MAX:
        raise TokenRefused(f"{name} is no time")
    return float(value)


def _check_audience(claims: Mapping[str, Any], issuer: Issuer) -> None:
    given = claims.get("aud")
    audiences = [given] if isinstance(given, str) else given
    if not isinstance(audiences, list) or not all(isinstance(each, str) for each in audiences):
        raise TokenRefused("aud must be a text, or a list of texts")
    if not set(audiences) & set(issuer.audiences):
        raise TokenRefused("aud names none of ours")


def _tenant(claims: Mapping[str, Any], issuer: Issuer) -> str:
    if issuer.tenant is not None:
        return issuer.tenant
    named = claims.get(issuer.tenant_claim or "")
    if not isinstance(named, str) or named not in issuer.tenants:
        raise TokenRefused(f"{issuer.tenant_claim} names no tenant of the issuer's")
    return named


def _scopes(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str] | None:
    if issuer.scope_claim is None:
        return None
    given = claims.get(issuer.scope_claim, "")
    words = given.split(" ") if isinstance(given, str) else given
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TokenRefused(f"{issuer.scope_claim} must be a text, or a list of texts")
    return frozenset(word for word in words if word in _SCOPES)


def _denies(denial: Denial, issuer: str, claims: Mapping[str, Any]) -> bool:
    if denial.issuer != issuer:
        return False
    if denial.sub is not None and denial.sub != claims.get("sub"):
        return False
    if denial.jti is not None and denial.jti != claims.get("jti"):
        return False
    issued_at_s = _moment(claims, "iat")
    return denial.issued_before is None or issued_at_s is None or issued_at_s < denial.issued_before.timestamp()

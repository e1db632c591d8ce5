"""
Issuers of JSON Web Tokens, as the credentials file has them under `[issuers.NAME]`, and who is denied.

The keys of an issuer are those of a secret, of a file, or of an address that the gateway reads now and then. A token is
checked in `jwt.py`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.outbound.addresses import url_fault

NAME_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
SECRET_BYTES_MIN = 32  # of the digest that the shortest algorithm makes
DEFAULT_USER_CLAIM = "sub"

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Claim = Annotated[str, Meta(min_length=1, max_length=255)]


class Algorithm(StrEnum):
    """A signature that may be asked for."""

    HS256 = "HS256"
    HS384 = "HS384"
    HS512 = "HS512"
    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    EDDSA = "EdDSA"

    @property
    def is_symmetric(self) -> bool:
        """Return True if who verifies could sign as well."""
        return self.value.startswith("HS")


class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One issuer, and what its tokens may do."""

    iss: Annotated[str, Meta(min_length=1, max_length=2048)]  # exactly as its tokens have it
    audiences: Annotated[list[str], Meta(min_length=1)]  # ours: a token must name one of them
    algorithms: Annotated[list[Algorithm], Meta(min_length=1)]
    secret: str | None = None
    jwks_file: str | None = None  # a JWK Set, or one public key in PEM
    jwks_url: str | None = None
    tenant: Name | None = None  # of all its tokens
    tenant_claim: Claim | None = None  # or the claim that names one of `tenants`
    tenants: list[Name] = []
    user_claim: Claim = DEFAULT_USER_CLAIM
    scope_claim: Claim | None = None  # None: tokens may write and read their user's own events
    type_required: str | None = None  # a `typ` that tokens must have, such as at+jwt
    lifetime_s_max: Annotated[int, Meta(ge=1)] | None = None  # from iat to exp

    @property
    def is_symmetric(self) -> bool:
        """Return True if its tokens are signed with a secret that we share."""
        return self.secret is not None


class Denial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Tokens that no longer count: of a subject, or one by its id, those issued before a moment or all."""

    issuer: Name
    sub: str | None = None
    jti: str | None = None
    issued_before: Annotated[datetime, Meta(tz=True)] | None = None


def issuer_fault(issuer: Issuer) -> str | None:
    """Return what is wrong with an issuer; None if nothing is."""
    return _key_fault(issuer) or _tenant_fault(issuer)


def _key_fault(issuer: Issuer) -> str | None:
    sources = [issuer.secret, issuer.jwks_file, issuer.jwks_url]
    if sum(source is not None for source in sources) != 1:
        return "names one of secret, jwks_file and jwks_url, and no second one"
    if any(algorithm.is_symmetric is not issuer.is_symmetric for algorithm in issuer.algorithms):
        return "mixes a secret with algorithms of public keys: HS256, HS384 and HS512 go with secret, the others do not"
    if issuer.secret is not None and len(issuer.secret.encode()) < SECRET_BYTES_MIN:
        return f"has a secret of less than {SECRET_BYTES_MIN} bytes"
    if issuer.jwks_url is not None and (fault := url_fault(issuer.jwks_url, internal_allowed=True)):
        return f"has a jwks_url that cannot be read: {fault}"
    return None


def _tenant_fault(issuer: Issuer) -> str | None:
    if (issuer.tenant is None) is (issuer.tenant_claim is None):
        return "names a tenant, or a tenant_claim with tenants"
    if (issuer.tenant_claim is None) is bool(issuer.tenants):
        return "lists the tenants that its tenant_claim may name, and none without that claim"
    return None


def denial_fault(denial: Denial) -> str | None:
    """Return what is wrong with a denial; None if nothing is."""
    if (denial.sub is None) is (denial.jti is None):
        return "names a sub or a jti"
    return None

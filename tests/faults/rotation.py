"""The gateways' own secrets, rotated as an operator does: a new one in front."""

import tomllib
from pathlib import Path

import msgspec

from schemas.access import credentials as credentials_file
from schemas.access.credentials import Credentials, Gateway
from tests.support.stack import RunningStack


def read_credentials(path: Path) -> Credentials:
    """Return what the file says."""
    return msgspec.convert(tomllib.loads(path.read_text()), Credentials)


def rotate(stack: RunningStack, *, keep: int) -> None:
    """Put a new secret first in the stack's credentials file, before *keep* of those that are there."""
    path = stack.folder / "credentials.toml"
    kept = read_credentials(path).gateway.mac_secrets[:keep]
    set_mac_secrets(path, [credentials_file.new_secret(), *kept])


def set_mac_secrets(path: Path, mac_secrets: list[str]) -> None:
    """Write *mac_secrets* to the file; the rest of it stays."""
    gateway = Gateway(mac_secrets=mac_secrets)
    credentials_file.write(path, msgspec.structs.replace(read_credentials(path), gateway=gateway))

"""The credentials file as commands read and change it; `deploy.local.settings_file` says where it is."""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from deploy.errors import CommandFailed
from schemas.access import credentials
from schemas.access.credentials import Agent, Credentials, CredentialsInvalid, NotEditable, Tenant
from schemas.process.file_writing import read_failure
from schemas.process.secret_files import SecretFileExposed, read_text

LOCKED_S = 5.0  # another command holds the file for milliseconds
POLL_S = 0.05


class NotWritten(CommandFailed):
    """The file cannot be written: a mounted secret, or one that only a person can edit. The text says why."""


def read(path: Path) -> Credentials:
    """
    Return what the file says.

    Raises:
        CommandFailed: it is missing, exposed or cannot be used; says what to do.
    """
    try:
        return credentials.parse(read_text(path))
    except FileNotFoundError as error:
        raise CommandFailed(
            f"{path} does not exist: set TIDEGATE_CREDENTIALS, start a stack with `tidegate up`, "
            "or make one with `tidegate tenants add NAME`"
        ) from error
    except OSError as error:
        raise CommandFailed(read_failure(path, error)) from error
    except SecretFileExposed as error:
        raise CommandFailed(str(error)) from error
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path} is not UTF-8") from error
    except CredentialsInvalid as error:
        raise CommandFailed(f"{path} cannot be used: {error}") from error


def change(path: Path, edit: Callable[[Credentials], Credentials], *, new: Credentials | None = None) -> Credentials:
    """
    Write what *edit* makes of the file, or of *new* where there is no file, and return it.

    Commands that run at the same time wait for each other, so that none undoes what another did.

    Raises:
        CommandFailed: see `read`; and whatever *edit* raises, before anything is written.
        NotWritten: it cannot be written.
    """
    if not path.parent.is_dir():
        raise CommandFailed(
            f"{path.parent} does not exist: set TIDEGATE_CREDENTIALS, or start a stack with `tidegate up`"
        )
    try:
        with _locked(path.parent):
            before = new if new is not None and not path.exists() else read(path)
            after = edit(before)
            if not credentials.write(path, after):
                sys.stderr.write(f"{path} was written over in place: its folder does not allow it to be replaced\n")
            return after
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror}") from error
    except NotEditable as error:
        raise NotWritten(str(error)) from error


def tenant_named(found: Credentials, name: str | None, *, path: Path) -> tuple[str, Tenant]:
    """
    Return the tenant called *name*; without a name, the only one.

    Raises:
        CommandFailed: there is no such tenant, or several to choose from.
    """
    known = ", ".join(found.tenants) or "none yet"
    if name is None and len(found.tenants) == 1:
        name = next(iter(found.tenants))
    if name is None:
        raise CommandFailed(f"name the tenant with --tenant; {path} has: {known}")
    if name not in found.tenants:
        raise CommandFailed(f"{path} has no tenant {name}: add it with `tidegate tenants add {name}`; it has: {known}")
    return name, found.tenants[name]


def agent_named(found: Credentials, name: str, tenant: str | None, *, path: Path) -> tuple[str, Agent]:
    """
    Return the tenant and the agent called *name*; without *tenant*, of the one tenant that has it.

    Raises:
        CommandFailed: there is no such agent, or several tenants have it.
    """
    holders = [tenant_id for tenant_id, of in found.tenants.items() if name in of.agents]
    if tenant is None and len(holders) > 1:
        raise CommandFailed(f"name the tenant with --tenant: {', '.join(holders)} each have an agent {name}")
    if tenant is None and not holders:
        known = ", ".join(dict.fromkeys(agent for of in found.tenants.values() for agent in of.agents)) or "none"
        raise CommandFailed(f"no such agent: {path} has no agent {name}; it has: {known}")
    tenant_id, of = tenant_named(found, tenant or holders[0], path=path)
    if name not in of.agents:
        raise CommandFailed(
            f"no such agent: tenant {tenant_id} has no agent {name}; it has: {', '.join(of.agents) or 'none'}"
        )
    return tenant_id, of.agents[name]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline_s = monotonic() + LOCKED_S
        while not _try_lock(descriptor):
            if monotonic() > deadline_s:
                raise CommandFailed(
                    f"another command has been changing files in {folder} for {LOCKED_S:.0f} s; try again"
                )
            sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: the file is still replaced as a whole
        return True
    return True

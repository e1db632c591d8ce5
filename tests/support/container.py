"""
Containers without a container engine: an image's content as a folder, and processes that see nothing else.

`build` carries out a Dockerfile's instructions in folders of the test's own; `started` runs a command in the result as
the image's user, with a read-only root and the mounts of a Compose service. The base image is the machine itself: its
/usr and the interpreter that runs the tests, both read-only. Network and process ids are the machine's, so each
container has an address of its own on loopback in place of 0.0.0.0. Needs root, as every mount does.

Run as a program, this is the part between `unshare` and the command: it mounts, changes root and user, and executes.
"""

import ctypes
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = "/python"  # where the base image has its interpreter
HOST = ("/usr", "/bin", "/sbin", "/lib", "/lib64")  # what the base image has of the machine
DEVICES = ("/dev", "/proc")
COPIED = ("/etc/ld.so.cache", "/etc/login.defs", "/etc/nsswitch.conf")
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl", "/etc/pip.conf")  # while the image is built
ACCOUNTS = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "/etc/group": "root:x:0:\n",
    "/etc/shadow": "root:*:20000::::::\n",
    "/etc/gshadow": "root:*::\n",
}
PASSED_ON = re.compile(r"PIP_|SSL_|REQUESTS_|\w+_proxy$", re.IGNORECASE)  # how the machine reaches packages
PR_SET_NO_NEW_PRIVS = 38
LAYER_KEPT_S = 14 * 86_400  # without being used
RUN_TIMEOUT_S = 280.0
STOP_S = 30.0
LOG_SHOWN_CHARACTERS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or folder of the machine, and where a container sees it."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a Dockerfile makes."""

    root: Path
    environment: Mapping[str, str]
    folder: str
    user: str
    command: Sequence[str]
    healthcheck: Sequence[str]

    @property
    def account(self) -> tuple[int, int, str]:
        """Return the uid, gid and home of its user."""
        for line in (self.root / "etc/passwd").read_text().splitlines():
            name, _, uid, gid, _, home, _ = line.split(":")
            if name == self.user:
                return int(uid), int(gid), home
        raise AssertionError(f"the image has no user {self.user}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosure:
    """What a process sees and is, as this module's program takes it."""

    root: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    uid: int = 0
    gid: int = 0
    binds: Sequence[Bind] = field(default_factory=list)
    read_only: bool = False

    @property
    def arguments(self) -> list[str]:
        """Return the command that starts it."""
        return ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, json.dumps(asdict(self))]


def base(root: Path) -> None:
    """Make *root* the folder of a base image."""
    for path in ("etc", "tmp", "root", "var/lib", "opt", "home"):
        (root / path).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for path, text in ACCOUNTS.items():
        (root / path[1:]).write_text(text)
    for path in COPIED:
        if Path(path).exists():
            shutil.copyfile(path, root / path[1:])
    (root / PYTHON[1:]).mkdir()
    for name in ("python", "python3"):
        (root / PYTHON[1:] / name).symlink_to(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}")


def binds() -> list[Bind]:
    """Return what every container sees of the machine."""
    paths = [path for path in (*HOST, sys.base_prefix) if Path(path).exists()]
    # Of a folder that another one contains nothing is left to be mounted.
    paths = [path for path in paths if path in HOST or not path.startswith("/usr/")]
    return [Bind(source=path, target=path) for path in paths] + [
        Bind(source=path, target=path, read_only=False) for path in DEVICES
    ]


@contextmanager
def started(
    image: Image,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    mounts: Sequence[Bind] = (),
    read_only: bool = True,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run *command* in a container of *image*; what it prints goes to *log*. It is stopped at the end."""
    uid, gid, home = image.account
    enclosure = Enclosure(
        root=str(image.root),
        command=command,
        environment={**image.environment, "HOME": home, **environment},
        folder=image.folder,
        uid=uid,
        gid=gid,
        binds=[*binds(), *mounts],
        read_only=read_only,
    )
    with log.open("ab") as out:
        process = subprocess.Popen(enclosure.arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={})
    try:
        yield process
    except BaseException:
        sys.stdout.write(f"--- {log.name}\n{log.read_text(errors='replace')[-LOG_SHOWN_CHARACTERS:]}\n")
        raise
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def build(dockerfile: Path, *, context: Path, folder: Path, cache: Path) -> Image:
    """Carry out *dockerfile*; of each stage the state after its first RUN is kept in *cache* for the next time."""
    from tests.support.dockerfile import parse  # late: this module is also a program, which has no such package

    built: dict[str, Image] = {}
    for number, stage in enumerate(parse(dockerfile)):
        root = folder / f"stage{number}"
        root.mkdir()
        base(root)
        building = _Building(root, context=context, cache=cache, stages=built)
        for instruction in stage.instructions:
            building.carry_out(instruction.name, instruction.rest)
        built[stage.name] = image = building.image()
    return image


class _Building:
    """One stage while it is made."""

    def __init__(self, root: Path, *, context: Path, cache: Path, stages: Mapping[str, Image]) -> None:
        self._root = root
        self._context = context
        self._cache = cache
        self._stages = stages
        self._environment = {"PATH": f"{PYTHON}:{PATH}"}
        self._folder = "/"
        self._user = "root"
        self._command: list[str] = []
        self._healthcheck: list[str] = []
        self._key = hashlib.sha256(f"{sys.version} {sys.base_prefix}".encode())
        self._has_run = False

    def image(self) -> Image:
        """Return what was made."""
        return Image(
            root=self._root,
            environment=self._environment,
            folder=self._folder,
            user=self._user,
            command=self._command,
            healthcheck=self._healthcheck,
        )

    def carry_out(self, name: str, rest: str) -> None:
        from tests.support.dockerfile import command, variables

        self._key.update(f"{name} {rest}\n".encode())
        match name:
            case "WORKDIR":
                self._folder = rest
                (self._root / rest[1:]).mkdir(parents=True, exist_ok=True)
            case "ENV":
                self._environment |= variables(rest, self._environment)
            case "USER":
                self._user = rest
            case "CMD":
                self._command = command(rest)
            case "HEALTHCHECK":
                self._healthcheck = command(rest)
            case "COPY":
                self._copy(rest.split())
            case "RUN":
                self._run_or_restore(rest)
            case _:
                assert name == "EXPOSE", name

    def _copy(self, words: list[str]) -> None:
        if words[0].startswith("--from="):
            other, source, target = words[0].removeprefix("--from="), words[1], words[2]
            (self._root / target[1:]).parent.mkdir(parents=True, exist_ok=True)
            (self._stages[other].root / source[1:]).rename(self._root / target[1:])  # that stage is not needed again
            return
        *sources, target = words
        into = self._root / os.path.normpath(Path(self._folder, target))[1:]
        for name in sources:
            source = self._context / name
            if source.is_dir():
                shutil.copytree(source, into, ignore=self._ignored, dirs_exist_ok=True)
            else:
                self._key.update(source.read_bytes())
                is_folder = target.endswith("/") or into.is_dir()
                shutil.copy(source, into / source.name if is_folder else into)

    def _ignored(self, folder: str, names: list[str]) -> list[str]:
        lines = (self._context / ".dockerignore").read_text().split()
        inside = Path(folder).relative_to(self._context)
        return [
            name
            for name in names
            if any(fnmatch(str(inside / name), line) or fnmatch(f"./{inside / name}", line) for line in lines)
        ]

    def _run_or_restore(self, line: str) -> None:
        if self._has_run:
            self._run(line)
            return
        self._has_run = True
        kept = self._cache / "layers" / self._key.hexdigest()[:32]
        if not kept.exists():
            self._run(line)
            kept.parent.mkdir(parents=True, exist_ok=True)
            unfinished = kept.with_name(f"{kept.name}.{os.getpid()}")
            _copy_all(self._root, unfinished)
            try:
                unfinished.rename(kept)
            except OSError:  # another test has made it meanwhile
                shutil.rmtree(unfinished)
            _forget_unused(kept.parent)
            return
        os.utime(kept)
        shutil.rmtree(self._root)
        _copy_all(kept, self._root)

    def _run(self, line: str) -> None:
        passed_on = {
            name: value
            for name, value in os.environ.items()
            if re.match(r"PIP_|SSL_|REQUESTS_|\w+_proxy$", name, re.IGNORECASE)
        }
        files = [path for path in (*NETWORK, *passed_on.get("PIP_FIND_LINKS", "").split()) if Path(path).exists()]
        enclosure = Enclosure(
            root=str(self._root),
            command=["/bin/sh", "-ec", line],
            environment={**self._environment, **passed_on, "HOME": "/root"},
            folder=self._folder,
            binds=[*binds(), *(Bind(source=path, target=path) for path in files)],
        )
        done = subprocess.run(
            enclosure.arguments, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, env={"PATH": PATH}, check=False
        )
        assert done.returncode == 0, f"RUN {line}\n{done.stdout[-LOG_SHOWN_CHARACTERS:]}\n{done.stderr}"


def _forget_unused(layers: Path) -> None:
    for layer in layers.iterdir():
        if time.time() - layer.stat().st_mtime > LAYER_KEPT_S:
            shutil.rmtree(layer, ignore_errors=True)


def _copy_all(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--archive", "--reflink=auto", source, target], check=True)


def _enter(given: dict[str, object]) -> None:
    """Become the command of an enclosure."""
    root, bound = Path(str(given["root"])), given["binds"]
    _mount("--bind", root, root)
    assert isinstance(bound, list)
    for bind in bound:
        source, target = Path(bind["source"]), root / bind["target"][1:]
        if source.is_symlink() and str(source) in HOST:
            if not target.is_symlink():
                target.symlink_to(source.readlink())
            continue
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        _mount("--rbind" if bind["source"] in DEVICES else "--bind", source, target)
        if bind["read_only"]:
            _mount("-o", "remount,bind,ro", target)
    if given["read_only"]:
        _mount("-o", "remount,bind,ro", root)
    os.chroot(root)
    os.chdir(str(given["folder"]))
    uid, gid, command, environment = given["uid"], given["gid"], given["command"], given["environment"]
    assert isinstance(uid, int)
    assert isinstance(gid, int)
    assert isinstance(command, list)
    assert isinstance(environment, dict)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if uid:
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.environ["PATH"] = environment["PATH"]  # where the command is looked for
    os.execvpe(command[0], command, environment)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["/usr/bin/mount", *arguments], check=True)


if __name__ == "__main__":
    _enter(json.loads(sys.argv[1]))

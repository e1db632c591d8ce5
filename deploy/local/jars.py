"""
Jars of Kafka and of the embedding model: fetched once through jgo, checked against pinned hashes before every start.

Why lists of our own: jgo only warns when a checksum is wrong, and an interrupted download of its stays in the
cache as if it were whole. Kafka's list is also the class path, so nothing is resolved, and a start with a full cache
asks the network for nothing. For another version write a new list: `sha256sum` of every jar, with its path in a
Maven repository.
"""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from deploy.errors import CommandFailed

KAFKA_LIST = Path(__file__).with_name("kafka.sha256")
MODEL_LIST = Path(__file__).with_name("model.sha256")
REPOSITORY = "m2"  # in the cache folder
DOWNLOADS_AT_ONCE = 8
DOWNLOAD_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One pinned jar; `path` is its place in a Maven repository: group/artifact/version/file."""

    path: PurePosixPath
    sha256: str
    instead: str  # how to do without it, for a message

    def is_whole(self, repository: Path) -> bool:
        """Return True if *repository* has exactly the pinned bytes."""
        return is_pinned(repository / self.path, self)


def is_pinned(path: Path, jar: Jar) -> bool:
    """Return True if the file at *path* has exactly the bytes of *jar*."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def pinned() -> tuple[Jar, ...]:
    """Return every jar that Kafka needs."""
    return _listed(KAFKA_LIST, instead="set TIDEGATE_KAFKA to the address of a Kafka that runs already")


def pinned_model() -> Jar:
    """Return the jar that carries the embedding model all-MiniLM-L6-v2 and its tokenizer."""
    [jar] = _listed(MODEL_LIST, instead="set TIDEGATE_EMBEDDERS to another embedder, such as openai")
    return jar


def _listed(path: Path, *, instead: str) -> tuple[Jar, ...]:
    lines = (line.split() for line in path.read_text().splitlines())
    return tuple(Jar(path=PurePosixPath(path), sha256=sha256, instead=instead) for sha256, path in lines)


def damaged(jars: Iterable[Jar], repository: Path) -> list[Jar]:
    """Return those of *jars* that are missing from *repository* or differ from their pin."""
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        checked = pool.map(lambda jar: (jar, jar.is_whole(repository)), jars)
        return [jar for jar, whole in checked if not whole]


def download(jar: Jar, repository: Path) -> None:
    """
    Fetch one jar from Maven Central.

    Raises:
        CommandFailed: it cannot be had.
    """
    # Late imports: only a first start downloads, and they take as long as all else that this command imports.
    from jgo.maven import MavenContext
    from requests import RequestException

    *group, artifact, version, _ = jar.path.parts
    repository.mkdir(parents=True, exist_ok=True)
    try:
        # Beside its place and then renamed: an interrupted download is never seen, nor one of another start.
        with TemporaryDirectory(dir=repository) as unfinished:
            context = MavenContext(repo_cache=Path(unfinished), timeout=DOWNLOAD_TIMEOUT_S)
            fetched = context.project(".".join(group), artifact).at_version(version).artifact().resolve()
            (repository / jar.path).parent.mkdir(parents=True, exist_ok=True)
            fetched.replace(repository / jar.path)
    except (RequestException, RuntimeError, OSError) as error:
        # The name of the kind: requests' own texts run over several lines.
        raise CommandFailed(
            f"cannot download {jar.path.name} from Maven Central ({type(error).__name__}): check the network, "
            f"or {jar.instead}"
        ) from error


def class_path(
    cache: Path,
    say: Callable[[str], None],
    *,
    jars: tuple[Jar, ...],
    fetch: Callable[[Jar, Path], None] = download,
) -> list[Path]:
    """
    Return the verified *jars*, after fetching with *fetch* those that are not in *cache*.

    Raises:
        CommandFailed: one cannot be fetched, or is not the pinned one even after a fresh download.
    """
    return _whole(cache, say, jars=jars, name=f"Kafka's {len(jars)} jars", fetch=fetch)


def model(
    cache: Path,
    say: Callable[[str], None],
    *,
    jar: Jar | None = None,
    fetch: Callable[[Jar, Path], None] = download,
) -> Path:
    """
    Return the path of the verified model jar, after fetching it with *fetch* if it is not in *cache*.

    *jar* is the pinned one unless another is given.

    Raises:
        CommandFailed: it cannot be fetched, or is not the pinned one even after a fresh download.
    """
    [path] = _whole(cache, say, jars=(jar or pinned_model(),), name="the jar of the embedding model", fetch=fetch)
    return path


def _whole(
    cache: Path, say: Callable[[str], None], *, jars: tuple[Jar, ...], name: str, fetch: Callable[[Jar, Path], None]
) -> list[Path]:
    repository = cache / REPOSITORY
    if missing := damaged(jars, repository):
        part = f"{len(missing)} of {name}" if len(jars) > 1 else name
        say(f"fetching {part} from Maven Central into {repository}")
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            list(pool.map(lambda jar: fetch(jar, repository), missing))
        if still := damaged(missing, repository):
            raise CommandFailed(
                f"{still[0].path.name} is not the jar that is pinned by its sha256, even after a fresh download: "
                f"something between here and Maven Central changes files; try another network, or {still[0].instead}"
            )
    return [repository / jar.path for jar in jars]

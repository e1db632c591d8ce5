"""The rules of the house that a tool can hold: who imports whom, names, and what the repository must not carry."""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = {"gateway", "processors", "schemas", "deploy", "tests"}
ROOT_FILES = {
    "docker-compose.yml", "pyproject.toml", "README.md", "Makefile", "LICENSE", "CHANGELOG.md", "requirements.txt",
}  # fmt: skip

# What each package may import of the others.
ALLOWED = {
    "schemas": {"schemas"},
    "gateway": {"gateway", "schemas"},
    "processors": {"processors", "schemas"},
    "deploy": {"deploy", "schemas", "gateway.client"},
}
# A module may import from its own entry and from the lines above it; entries of one line never know each other.
LAYERS = (
    ("schemas.errors",),
    ("schemas.strictjson", "schemas.canonical", "schemas.jsonb", "schemas.ids", "schemas.texts", "schemas.times"),
    ("schemas.process", "schemas.outbound", "schemas.structs"),
    ("schemas.kafka", "schemas.access", "schemas.objects", "schemas.pacing"),
    ("schemas.runs", "schemas.events", "schemas.documents", "schemas.jobs"),
    ("schemas.sinks",),
    ("schemas.archive",),
    ("schemas.catalogue",),
    ("gateway.errors",),
    ("gateway.onethread",),
    ("gateway.limits", "gateway.objects", "gateway.postgres", "gateway.tokens"),
    ("gateway.kafka",),
    ("gateway.http",),
    (
        *("gateway.runs", "gateway.events", "gateway.jobs", "gateway.documents"),
        *("gateway.status", "gateway.registry", "gateway.operations"),
    ),
    ("gateway.body_worker",),
    ("gateway.app",),
    ("gateway.config", "gateway.startup"),
    ("gateway.__main__",),
    ("processors.runtime",),
    ("processors.outbound", "processors.postgres", "processors.children"),
    ("processors.jobs.context",),
    ("processors.jobs.tasks", "processors.jobs.children", "processors.jobs.moves", "processors.documents"),
    (
        *("processors.runs.persistence", "processors.runs.evaluation", "processors.runs.retention"),
        *("processors.fanout", "processors.events.rows", "processors.events.processing", "processors.sinks"),
        *("processors.jobs.intake", "processors.jobs.executor", "processors.archive"),
        *("processors.documents.intake", "processors.documents.work", "processors.documents.store"),
        "processors.documents",
    ),
    ("processors.app",),
    ("processors.__main__",),
)
# What every domain is built on, and so may know none of them.
KIT = {
    *("schemas.outbound", "schemas.process", "schemas.kafka", "schemas.access", "schemas.objects", "schemas.pacing"),
    *("processors.runtime", "processors.outbound", "processors.postgres", "processors.children"),
    *("gateway.http", "gateway.kafka", "gateway.limits", "gateway.objects", "gateway.postgres"),
    "gateway.tokens",
}
DOMAINS = ("runs", "events", "documents", "jobs", "sinks", "archive")
# How no docstring begins: it starts with a noun phrase, or with a verb where it documents a function.
QUESTIONING = re.compile(r"(What|Whether|Who|Whose|Whom|How|Where|When|Why|Say|Says)\b")
VAGUE = re.compile(r"(^|_)(utils?|common|helpers?|managers?|misc|base)(_|$)")


def tracked() -> list[Path]:
    """Return every file that git tracks."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


FILES = tracked()
MODULES = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ALLOWED]


def imports(path: Path) -> Iterator[str]:
    """Yield the full names that a module imports, of ours."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in TOP)


def within(name: str, allowed: set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    package, *rest = path.relative_to(ROOT).parts
    allowed = ALLOWED[package]
    if (package, rest[0]) == ("gateway", "client"):
        allowed = {"gateway.client", "schemas"}
    wrong = [name for name in imports(path) if not within(name, allowed)]
    assert wrong == []


def entry_of(name: str) -> tuple[int, str] | None:
    """Return the line and the entry of `LAYERS` that a module belongs to."""
    found = [(line, entry) for line, entries in enumerate(LAYERS) for entry in entries if within(name, {entry})]
    return max(found, key=lambda each: len(each[1]), default=None)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_its_own_entry_and_the_lines_above(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if (own := entry_of(module)) is None:
        return
    for name in imports(path):
        other = entry_of(name)
        assert other is None or other == own or other[0] < own[0], f"{module} imports {name}"


def test_the_kit_knows_no_domain() -> None:
    domains = {"schemas.catalogue", *(f"{package}.{domain}" for package in ALLOWED for domain in DOMAINS)}
    for path in MODULES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if within(module, KIT):
            assert not [name for name in imports(path) if within(name, domains)], path


def test_every_module_has_its_layer() -> None:
    for path in MODULES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if (
            path.name != "__init__.py"
            and module.startswith(("schemas.", "gateway.", "processors."))
            and not within(module, {"gateway.client"})
        ):
            assert entry_of(module) is not None, module


def test_only_the_composition_is_not_imported() -> None:
    composition = {"gateway.app", "processors.app", "gateway.__main__", "processors.__main__"}
    for path in MODULES:
        if path.name not in ("__main__.py", "app.py"):
            assert not [name for name in imports(path) if within(name, composition)], path


def test_modules_know_only_the_packages_that_are_theirs() -> None:
    """The stores keep psycopg, the runtime Faust, the codec fastavro, the intake its formats; one example none."""
    owners = {
        "psycopg": (
            "gateway/postgres/",
            "gateway/runs/stored_run_states.py",
            "gateway/documents/postgres.py",
            "gateway/documents/search/",
            "processors/postgres/",
            *(f"processors/events/rows/{name}.py" for name in ("store", "lookup", "rows")),
            *(
                f"processors/runs/persistence/{name}.py"
                for name in ("store", "lookup", "rows", "forgetting", "finalization", "removals")
            ),
            "processors/runs/retention/session.py",
            "processors/jobs/",
            "processors/sinks/kinds/postgres.py",
            *(f"processors/documents/{name}" for name in ("chunk_tables.py", "counts.py", "moves.py")),
            *(f"processors/documents/{name}" for name in ("intake/", "work/", "store/")),
            "schemas/process/postgres.py",
            "deploy/",
        ),
        "faust": (
            "processors/runtime/fetched.py",
            "processors/runtime/transport.py",
            "processors/runtime/worker.py",
        ),
        "aiokafka": ("processors/runtime/", "schemas/kafka/transactions.py"),
        "toon_format": ("gateway/http/toon.py",),
        "brotli": ("gateway/http/codings.py",),
        "fastavro": ("schemas/kafka/codec.py", "deploy/examples/direct_producer.py"),
        "joserfc": ("schemas/access/jwt.py",),
        "obstore": ("schemas/objects/stores.py",),
        "onnxruntime": ("schemas/documents/embedding/minilm.py",),
        "tokenizers": ("schemas/documents/embedding/minilm.py",),
        "zipfile": ("processors/documents/parsing/", "schemas/documents/embedding/minilm.py"),
        **dict.fromkeys(
            ("selectolax", "pypdf", "defusedxml", "charset_normalizer"), ("processors/documents/parsing/",)
        ),
    }
    for path in MODULES:
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            found = (
                [module]
                if module
                else [each.name for each in getattr(node, "names", []) if isinstance(node, ast.Import)]
            )
            for package, places in owners.items():
                if any(each.split(".")[0] == package for each in found):
                    assert name.startswith(places), f"{name} imports {package}"


def test_names_say_what_a_thing_is() -> None:
    for path in FILES:
        for part in path.relative_to(ROOT).with_suffix("").parts:
            assert not VAGUE.search(part), path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_begin_with_a_noun_phrase_or_a_verb(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            assert text is None or not QUESTIONING.match(text), f"{path}:{node.body[0].lineno}: {text}"


def test_the_top_level_is_the_one_agreed() -> None:
    for path in FILES:
        first, *rest = path.relative_to(ROOT).parts
        assert first in (TOP if rest else ROOT_FILES) or first.startswith("."), path


def test_faust_is_never_asked_to_take() -> None:
    """Its buffered iteration loses messages when an agent raises or stops."""
    forbidden = re.compile(r"\.take\(|noack_take|exactly_once|pause_partitions\(|\bpickle\b")
    for path in MODULES:
        if path.relative_to(ROOT).parts[0] != "processors":
            continue
        found = [line for line in path.read_text().splitlines() if forbidden.search(line)]
        assert not found, path


def test_secrets_are_compared_in_constant_time() -> None:
    secret = re.compile(r"secret|sha256_of_key|signature|\bmac\b|presented|password|api_key")
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops):
                sides = [node.left, *node.comparators]
                names = [side.id if isinstance(side, ast.Name) else getattr(side, "attr", "") for side in sides]
                assert not [name for name in names if secret.search(name)], f"{path}:{node.lineno}"


def test_nothing_is_read_by_what_runs_code() -> None:
    """What comes from outside is data: no pickle, no marshal, no eval, no YAML."""
    modules, functions = {"pickle", "marshal", "shelve", "dill", "yaml"}, {"eval", "exec", "__import__"}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            assert not modules & {each.split(".")[0] for each in names}, f"{path}:{node.lineno}"
            assert called not in functions, f"{path}:{node.lineno}"


def test_sql_is_never_put_together_from_values() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("execute", "executemany", "copy"):
                assert not (node.args and isinstance(node.args[0], ast.JoinedStr | ast.BinOp)), f"{path}:{node.lineno}"


def test_nothing_of_a_machine_or_a_registry_is_carried() -> None:
    patterns = re.compile(
        r"(?:^|[^\w.])/(?:work|root|farm)/|https?://[^ \"]+/(?:simple|maven2|packages/[0-9a-f]{2})|https?://registry\.",
        re.MULTILINE,
    )
    for path in FILES:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        assert not patterns.search(text), path


def test_every_requirement_is_pinned_by_version_and_hash() -> None:
    for name in ("requirements.txt", "deploy/docker/requirements.txt", "deploy/docker/build-requirements.txt"):
        entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
        assert entries
        for entry in entries:
            assert re.match(r"[\w.\[\],-]+==\S+", entry), entry
            assert "--hash=sha256:" in entry, entry


def test_no_class_name_is_public_in_two_modules_of_a_package() -> None:
    places: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in MODULES:
        parts = path.relative_to(ROOT).parts
        package = ".".join(parts[:2]) if parts[:2] == ("gateway", "client") else parts[0]
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[package, node.name].append(path)
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_no_folder_imports_from_one_that_imports_from_it() -> None:
    """A folder is known with what is in it; a module that lies beside folders is known by itself."""
    imported = {entry: set[str]() for entry in map(folder_of, MODULES)}
    for path in MODULES:
        # A name is a module, or something in one.
        names = {each for name in imports(path) for each in (name, name.rpartition(".")[0])}
        others = {ROOT / f"{name.replace('.', '/')}.py" for name in names}
        imported[folder_of(path)] |= {folder_of(other) for other in others if other in MODULES} - {folder_of(path)}
    TopologicalSorter(imported).prepare()  # raises CycleError, which names them


def folder_of(path: Path) -> str:
    """Return the folder of a module within its package; the module itself where it lies in none."""
    first, second, *_ = path.relative_to(ROOT).with_suffix("").parts
    return f"{first}.{second}"

"""Holds the table of rooms in docs/architecture.md: who may import what, how long things may be.

Reads the source with ast and imports none of it.

A room that does not exist yet is not checked. A new folder under denoise_jax/ has to be entered in ROOMS.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_FILE_LINES = 400  # the habit is 300
MAX_FUNCTION_LINES = 80  # the habit is 60
SOURCE_FOLDERS = ("denoise_jax", "tasks", "configs", "benchmarks", "launch", "tests")

TENSORFLOW = {"tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio", "clu", "t5", "t5x"}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}
HEAVY = TENSORFLOW | JAX | {"keras", "matplotlib", "sentencepiece", "tensorboardX"}
OURS = {"denoise_jax", "tasks", "configs"}
LEAVES = {  # no framework: any room may use them
    "denoise_jax",
    "denoise_jax.config",
    "denoise_jax.errors",
    "denoise_jax.target_kinds",
}


@dataclass(frozen=True)
class Room:
    """What the modules of one folder (or one file of it, which then goes before the folder) may import."""

    ours: frozenset[str] = frozenset()  # our other rooms; its own room and LEAVES are always allowed
    forbidden: frozenset[str] = frozenset()  # packages that it must not know
    only: frozenset[str] | None = None  # the only packages besides the standard library, where that is so


def room(ours: str = "", forbidden: set[str] = frozenset(), only: str | None = None) -> Room:
    names = frozenset(name if name in OURS else f"denoise_jax.{name}" for name in ours.split())
    return Room(names, frozenset(forbidden), None if only is None else frozenset(only.split()))


ALL_ROOMS = "corruption data model parallel training evaluation planning interop tasks configs"

ROOMS = {
    "denoise_jax/__init__.py": room(only=""),
    "denoise_jax/config.py": room(only="pydantic"),
    "denoise_jax/errors.py": room(only=""),
    "denoise_jax/target_kinds.py": room(only=""),
    "denoise_jax/corruption": room(only="numpy tensorflow"),
    "denoise_jax/data/loader.py": room("corruption data"),
    "denoise_jax/data": room("corruption", JAX),
    "denoise_jax/model": room("", TENSORFLOW),
    "denoise_jax/parallel": room("", TENSORFLOW),
    "denoise_jax/training/loop.py": room("model parallel data training"),
    "denoise_jax/training": room("model parallel", TENSORFLOW),
    "denoise_jax/evaluation": room("corruption data model parallel training"),
    "denoise_jax/planning": room("training parallel", TENSORFLOW),
    "denoise_jax/interop": room("model", TENSORFLOW),
    "denoise_jax/cli": room(ALL_ROOMS),
    "tasks": room("corruption data", JAX),
    "configs": room(only=""),
}


def python_files(*folders: str) -> list[Path]:
    """All Python files in these folders (or these files), those that exist."""
    found = []
    for folder in folders:
        path = ROOT / folder
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> tuple[str, Room] | None:
    """The most particular entry of ROOMS that covers a file."""
    name = name_of(path)
    matches = [key for key in ROOMS if name == key or name.startswith(key + "/")]
    key = max(matches, key=len, default=None)
    return None if key is None else (key, ROOMS[key])


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: no function bodies, nothing under TYPE_CHECKING."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))


def imported(nodes: Iterator[ast.AST], path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of each import, relative ones resolved; `from a import b` gives a and a.b."""
    package = name_of(path).removesuffix(".py").split("/")[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            constants = [value.value for value in node.args[:1] if isinstance(value, ast.Constant)]
            yield from ((node.lineno, str(value)) for value in constants)


def our_room(module: str) -> str | None:
    """denoise_jax.model for denoise_jax.model.layers.Dense; None where the module is not ours or a leaf."""
    parts = module.split(".")
    if parts[0] not in OURS:
        return None
    if parts[0] != "denoise_jax":
        return parts[0]
    name = ".".join(parts[:2])
    exists = (ROOT / name.replace(".", "/")).exists() or (ROOT / (name.replace(".", "/") + ".py")).exists()
    return None if name in LEAVES or not exists else name


def broken_rules(path: Path, key: str, rules: Room) -> Iterator[str]:
    own_folder = key if not key.endswith(".py") else str(Path(key).parent)
    own = {own_folder.replace("/", ".")}
    for line, module in imported(ast.walk(ast.parse(path.read_text())), path):
        package = module.split(".")[0]
        where = f"{name_of(path)}:{line} imports {module}"
        if package in rules.forbidden:
            yield f"{where}: {key} must not know {package}"
        elif package in OURS:
            other = our_room(module)
            if other is not None and other not in rules.ours | own:
                yield f"{where}: {key} must not know the room {other}"
        elif rules.only is not None and package not in rules.only | set(sys.stdlib_module_names):
            yield f"{where}: {key} may import the standard library and {sorted(rules.only) or 'nothing'} only"


@pytest.mark.parametrize("key", ROOMS)
def test_room_imports_only_what_the_table_allows(key):
    files = [path for path in python_files(key) if room_of(path)[0] == key]
    broken = {fault for path in files for fault in broken_rules(path, key, ROOMS[key])}
    assert not broken, "\n".join(sorted(broken))


def test_every_source_file_is_in_a_room():
    homeless = [name_of(path) for path in python_files("denoise_jax") if room_of(path) is None]
    assert not homeless, f"enter these in ROOMS and in docs/architecture.md: {homeless}"


def test_the_table_names_every_room():
    table = (ROOT / "docs/architecture.md").read_text()
    rooms = {key for key in ROOMS if not key.endswith("py") and (ROOT / key).exists()} | {
        "denoise_jax/config.py",
        "denoise_jax/errors.py",
        "denoise_jax/target_kinds.py",
    }
    missing = [key for key in sorted(rooms) if f"| `{key}" not in table]
    assert not missing, f"docs/architecture.md lacks {missing}"


def test_corruption_takes_no_configuration_no_other_room():
    for path in python_files("denoise_jax/corruption"):
        used = [module for _, module in imported(ast.walk(ast.parse(path.read_text())), path)]
        assert "denoise_jax.config" not in used, (
            f"{name_of(path)}: corruption takes numbers, not configurations"
        )


def test_command_line_imports_frameworks_lazily():
    broken = []
    for path in python_files("denoise_jax/cli"):
        for line, module in imported(top_level(ast.parse(path.read_text())), path):
            other = our_room(module)
            if module.split(".")[0] in HEAVY or other not in (None, "denoise_jax.cli", "configs"):
                broken.append(
                    f"{name_of(path)}:{line} imports {module} before it is needed: --help must be quick"
                )
    assert not broken, "\n".join(broken)


def test_only_the_tasks_folder_registers_tasks():
    broken = []
    for path in python_files("denoise_jax", "configs", "benchmarks", "launch"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called.endswith(("TaskRegistry.add", "MixtureRegistry.add")):
                    broken.append(
                        f"{name_of(path)}:{node.lineno} calls {called}: registrations belong in tasks/"
                    )
    assert not broken, "\n".join(broken)


def test_files_and_functions_are_short():
    broken = []
    for path in python_files(*SOURCE_FOLDERS):
        text = path.read_text()
        if (lines := len(text.splitlines())) > MAX_FILE_LINES:
            broken.append(
                f"{name_of(path)} has {lines} lines, above {MAX_FILE_LINES}: split it by what it holds"
            )
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    where = f"{name_of(path)}:{node.lineno} {node.name}"
                    broken.append(f"{where} has {lines} lines, above {MAX_FUNCTION_LINES}")
    assert not broken, "\n".join(broken)


def test_files_are_named_for_what_they_hold():
    vague = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    broken = [name_of(path) for path in python_files(*SOURCE_FOLDERS) if path.name in vague]
    assert not broken, f"name these for what they hold: {broken}"

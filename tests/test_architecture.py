"""Enforces the table of rooms in docs/architecture.md: who may import what, and how long things may be.

Reads the source with ast and imports none of it. A new folder under denoise_jax/ has to be added to ROOMS;
rooms that do not exist yet are not checked.
"""

import ast
import graphlib
import sys
from collections import Counter
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
QUICK_TO_IMPORT = (
    None,
    "denoise_jax.cli",
    "denoise_jax.named_configs",
    "denoise_jax.user_packages",
    "configs",
)
LEAVES = {  # without frameworks: any room may import them
    "denoise_jax",
    "denoise_jax.config",
    "denoise_jax.config_section",
    "denoise_jax.decoding_config",
    "denoise_jax.control_characters",
    "denoise_jax.errors",
    "denoise_jax.files",
    "denoise_jax.paths",
    "denoise_jax.target_kinds",
    "denoise_jax.validation",
}


@dataclass(frozen=True)
class Room:
    """What the modules of a folder may import; the entry of a single file precedes its folder's."""

    ours: frozenset[str] = frozenset()  # our other rooms; its own room and LEAVES are always allowed
    forbidden: frozenset[str] = frozenset()  # packages that it must not import
    only: frozenset[str] | None = None  # if set, the only packages besides the standard library


def room(ours: str = "", forbidden: set[str] = frozenset(), only: str | None = None) -> Room:
    names = frozenset(name if name in OURS else f"denoise_jax.{name}" for name in ours.split())
    return Room(names, frozenset(forbidden), None if only is None else frozenset(only.split()))


ALL_ROOMS = (
    "corruption vocabulary data inspection model parallel runs generation evaluation training planning "
    "interop named_configs user_packages tasks configs"
)

ROOMS = {
    "denoise_jax/__init__.py": room(
        ALL_ROOMS, only=""
    ),  # names of public functions, imported when they are used
    "denoise_jax/config.py": room(only="pydantic"),
    "denoise_jax/config_section.py": room(only="pydantic"),
    "denoise_jax/decoding_config.py": room(only="pydantic"),
    "denoise_jax/control_characters.py": room(only=""),
    "denoise_jax/errors.py": room(only=""),
    "denoise_jax/files.py": room(only=""),
    "denoise_jax/paths.py": room(only="etils fsspec"),
    "denoise_jax/named_configs.py": room("user_packages configs", only="pydantic"),
    "denoise_jax/target_kinds.py": room(only=""),
    "denoise_jax/validation.py": room(only="pydantic"),
    "denoise_jax/user_packages.py": room("tasks configs", only=""),
    "denoise_jax/corruption": room(only="numpy tensorflow"),
    "denoise_jax/vocabulary/seqio.py": room("", JAX),
    "denoise_jax/vocabulary": room("", JAX | TENSORFLOW),
    "denoise_jax/data/loader.py": room("corruption vocabulary data parallel"),
    "denoise_jax/data": room("corruption vocabulary user_packages", JAX),
    "denoise_jax/inspection": room("corruption vocabulary data", JAX),
    "denoise_jax/model": room("", TENSORFLOW),
    "denoise_jax/parallel": room("model", TENSORFLOW),
    "denoise_jax/runs": room("vocabulary model parallel", TENSORFLOW),
    "denoise_jax/generation": room("vocabulary model parallel runs", TENSORFLOW),
    "denoise_jax/evaluation": room("vocabulary data model parallel runs generation"),
    "denoise_jax/training/loop.py": room("vocabulary data model parallel runs evaluation", TENSORFLOW),
    "denoise_jax/training/train.py": room("vocabulary data model parallel runs evaluation", TENSORFLOW),
    "denoise_jax/training": room("model parallel runs evaluation", TENSORFLOW),
    "denoise_jax/planning": room("model parallel training", TENSORFLOW),
    "denoise_jax/interop": room("vocabulary model runs", TENSORFLOW),
    "launch": room(only="launch"),
    "denoise_jax/cli": room(ALL_ROOMS),
    "tasks": room("corruption vocabulary data", JAX),
    "configs": room(only=""),
}


def python_files(*folders: str) -> list[Path]:
    """The Python files in these folders, or these files, if they exist."""
    found = []
    for folder in folders:
        path = ROOT / folder
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> tuple[str, Room] | None:
    """The most specific entry of ROOMS that covers a file."""
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
    """(line, absolute dotted module) of each import; `from a import b` gives a and a.b."""
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
    """denoise_jax.model for denoise_jax.model.layers.Dense; None if the module is a leaf or not ours."""
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
            yield f"{where}: {key} must not import {package}"
        elif package in OURS:
            other = our_room(module)
            if other is not None and other not in rules.ours | own:
                yield f"{where}: {key} must not import the room {other}"
        elif rules.only is not None and package not in rules.only | set(sys.stdlib_module_names):
            yield f"{where}: {key} may import the standard library and {sorted(rules.only) or 'nothing'} only"


@pytest.mark.parametrize("key", ROOMS)
def test_room_imports_only_what_the_table_allows(key):
    files = [path for path in python_files(key) if room_of(path)[0] == key]
    broken = {fault for path in files for fault in broken_rules(path, key, ROOMS[key])}
    assert not broken, "\n".join(sorted(broken))


def test_no_room_imports_itself_through_others():
    """The rooms as they import each other today, drawn as a graph, have an order: no circle."""
    arrows: dict[str, set[str]] = {}
    for path in python_files("denoise_jax", "tasks", "configs"):
        key = room_of(path)[0]
        if key in ("denoise_jax/__init__.py", "denoise_jax/user_packages.py"):
            continue  # these two import others by name, when a user asks for them
        own = our_room(".".join(path.relative_to(ROOT).with_suffix("").parts))
        used = {our_room(module) for _, module in imported(ast.walk(ast.parse(path.read_text())), path)}
        arrows.setdefault(own, set()).update(used - {own, None})
    arrows.pop(None, None)
    order = list(graphlib.TopologicalSorter(arrows).static_order())  # CycleError names a circle
    assert (
        order.index("denoise_jax.model")
        < order.index("denoise_jax.training")
        < order.index("denoise_jax.cli")
    )


def test_every_source_file_is_in_a_room():
    homeless = [name_of(path) for path in python_files("denoise_jax") if room_of(path) is None]
    assert not homeless, f"add these to ROOMS and to docs/architecture.md: {homeless}"


def test_file_names_are_unique_in_the_package():
    names = Counter(path.name for path in python_files("denoise_jax") if path.name != "__init__.py")
    repeated = [name for name, count in names.items() if count > 1]
    assert not repeated, f"a file name alone should say which file it is: {repeated}"


def test_the_documented_table_names_every_room():
    table = (ROOT / "docs/architecture.md").read_text()
    rooms = {key for key in ROOMS if (ROOT / key).exists() and key.count("/") < 2 and "__init__" not in key}
    missing = [key for key in sorted(rooms) if f"`{key}" not in table]
    assert not missing, f"docs/architecture.md lacks {missing}"


def test_corruption_takes_options_and_no_configuration():
    for path in python_files("denoise_jax/corruption"):
        used = [module for _, module in imported(ast.walk(ast.parse(path.read_text())), path)]
        assert "denoise_jax.config" not in used, (
            f"{name_of(path)}: corruption takes numbers, not configurations"
        )


def test_the_command_line_imports_frameworks_lazily():
    broken = []
    for path in python_files("denoise_jax/cli"):
        for line, module in imported(top_level(ast.parse(path.read_text())), path):
            other = our_room(module)
            if module.split(".")[0] in HEAVY or other not in QUICK_TO_IMPORT:
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
    folders = [folder for folder in SOURCE_FOLDERS if folder != "tests"]
    broken = [name_of(path) for path in python_files(*folders) if path.name in vague]
    assert not broken, f"name these for what they hold: {broken}"

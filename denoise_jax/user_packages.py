"""The packages `tasks` and `configs`: the user's modules and ours in one package each.

The distribution installs two top-level packages, `tasks` and `configs`. A user may have packages of the same
names in the working directory, and Python would import only one of each. Here both become one package whose
`__path__` lists the user's folder, then ours: the user's `__init__.py` runs instead of ours, a user's module
hides ours of the same name, and all our other modules remain importable.
"""

import importlib.abc
import itertools
import pkgutil
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

_PACKAGES = ("tasks", "configs")
_OURS = Path(__file__).resolve().parents[1]


def import_module(name: str) -> ModuleType:
    """Imports the module `name`, one of ours or one in the working directory.

    The working directory comes last on sys.path, so that a file in it never replaces an installed library.
    """
    _join_packages()
    return importlib.import_module(name)


def import_task_module(name: str) -> None:
    """Imports the module `name`, which registers its tasks.

    "tasks" registers the user's tasks and ours: if the user's folder has no `__init__.py`, all its modules
    are imported. A module of ours that depends on a hidden one is skipped.
    """
    module = import_module(name)
    if name != "tasks":
        return
    ours = _OURS / name
    code = getattr(module, "__file__", None)
    of_user = code is not None and Path(code).resolve().parent != ours
    for found in pkgutil.iter_modules([str(ours)] if of_user else module.__path__):
        try:
            importlib.import_module(f"{name}.{found.name}")
        except ImportError:
            if found.module_finder.path != str(ours) or not _hidden(name):
                raise


def module_names(package: str) -> list[str]:
    """The names of the modules in "tasks" or "configs", the user's and ours, sorted."""
    return sorted({found.name for found in pkgutil.iter_modules(_folders(package))})


def _join_packages() -> None:
    """Makes `import tasks` and `import configs` find both packages, even if one was imported before."""
    working_directory = str(Path.cwd())
    if working_directory not in sys.path:
        sys.path.append(working_directory)
    if not any(isinstance(finder, _JoinedPackages) for finder in sys.meta_path):
        sys.meta_path.insert(0, _JoinedPackages())
    for name in set(_PACKAGES) & set(sys.modules):
        module = sys.modules[name]
        module.__path__ = list(dict.fromkeys([*_folders(name), *getattr(module, "__path__", ())]))


class _JoinedPackages(importlib.abc.MetaPathFinder):
    """Finds `tasks` and `configs` on their first import."""

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        if name not in _PACKAGES:
            return None
        root = _user_root(name) or _OURS
        for file in (root / name / "__init__.py", root / f"{name}.py"):
            if file.is_file():
                return spec_from_file_location(name, file, submodule_search_locations=_folders(name))
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = _folders(name)
        return spec


def _folders(name: str) -> list[str]:
    """The folders of the package `name`: the user's, if any, and ours."""
    roots = [root for root in (_user_root(name), _OURS) if root is not None]
    return [str(root / name) for root in roots if (root / name).is_dir()]


def _hidden(name: str) -> set[str]:
    """The names of our modules that are hidden by the user's."""
    *users, ours = ({found.name for found in pkgutil.iter_modules([folder])} for folder in _folders(name))
    return ours.intersection(*users) if users else set()


def _user_root(name: str) -> Path | None:
    """Where the user's package `name` is: the working directory, or one before ours on sys.path."""
    before = itertools.takewhile(lambda entry: Path(entry).resolve() != _OURS, sys.path)
    for root in (Path.cwd(), *map(Path, before)):
        if ((root / name).is_dir() or (root / f"{name}.py").is_file()) and root.resolve() != _OURS:
            return root
    return None

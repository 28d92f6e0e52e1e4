"""A user's own `tasks` and `configs` are found next to ours, from the command line and from a notebook."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
from configs import quickstart

def config():
    return quickstart.config().replace(name={name!r})
"""
TASK = """
import seqio, tensorflow as tf
from denoise_jax.data import preprocessors

def source(split, shuffle_files, seed=None):
    return tf.data.Dataset.from_tensor_slices({"text": ["The union is strong."]})

seqio.TaskRegistry.add(
    "mine", source=seqio.FunctionDataSource(source, splits=["train"]),
    preprocessors=preprocessors.denoising("mine", "bart_paper"),
    output_features=preprocessors.output_features("vocabulary"))
"""
# Modules of ours that register names in a list, which takes less time than SeqIO.
OURS = {
    "tasks__init": "from . import finetune, quickstart",
    "tasks__quickstart": "import sys\nSPEECHES = 249\nsys.registered.append('quickstart')",
    "tasks__finetune": "import sys\nfrom .quickstart import SPEECHES\nsys.registered.append('century')",
}
REGISTER = """
import sys
from pathlib import Path
from denoise_jax import user_packages
user_packages._OURS = Path(sys.argv[1])
sys.registered = []
user_packages.import_task_module(sys.argv[2])
print(*sys.registered)
"""


def write(folder: Path, **files: str) -> None:
    """Writes modules: double underscores separate folders, `init` is `__init__`."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/").replace("init", "__init__") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def python(folder: Path, *arguments: str) -> list[str]:
    """The lines that a new interpreter prints, started in `folder`."""
    command = [sys.executable, "-W", "ignore", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def config_name(folder: Path, name: str) -> str:
    """What `denoise-jax config NAME` prints as the name."""
    line = python(folder, "-m", "denoise_jax.cli.main", "config", name)[1]
    return line.split('"')[3]


def test_configurations_of_the_user_and_ours(tmp_path):
    """A package without `__init__.py` is a package too."""
    write(tmp_path, configs__mine=CONFIG.format(name="mine"), my_package__my_run=CONFIG.format(name="dotted"))
    assert config_name(tmp_path, "mine") == "mine"
    assert config_name(tmp_path, "my_package.my_run") == "dotted"
    assert config_name(tmp_path, "quickstart") == "quickstart"


def test_a_module_of_the_user_hides_ours_of_the_same_name(tmp_path):
    program = "from denoise_jax.named_configs import load_config\nprint(load_config('quickstart').name)"
    text = "def config():\n    return bart_base.config().replace(name='hides')"
    write(
        tmp_path, configs__init="print('init')", configs__quickstart=f"from configs import bart_base\n{text}"
    )
    assert python(tmp_path, "-c", program) == ["init", "hides"]


def test_a_plain_file_is_a_package_with_our_modules(tmp_path):
    write(tmp_path, configs="from configs.quickstart import config")
    program = "from denoise_jax import load_config\nprint(load_config('quickstart').name)\n"
    program += "import configs\nprint(configs.__file__, configs.config().name)"
    assert python(tmp_path, "-c", program) == ["quickstart", f"{tmp_path}/configs.py quickstart"]


def test_packages_that_are_already_imported_are_joined(tmp_path):
    """As in a notebook, where the working directory comes first on the path."""
    write(tmp_path, configs__init="", configs__mine=CONFIG.format(name="mine"))
    program = (
        "import configs\n"
        "from denoise_jax import load_config\n"
        "print(configs.__file__, load_config('mine').name, load_config('bart_base').name)"
    )
    assert python(tmp_path, "-c", program) == [f"{tmp_path}/configs/__init__.py mine bart_base"]


def test_a_package_on_the_path_before_ours(tmp_path):
    """As with PYTHONPATH, or with a script in another folder."""
    write(tmp_path / "work", configs__mine=CONFIG.format(name="mine"))
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'work')!r})\n"
    program += "from denoise_jax import load_config\nprint(load_config('mine').name)"
    assert python(tmp_path, "-c", program) == ["mine"]


def test_the_repository_has_our_modules_only(repository):
    program = "from denoise_jax.named_configs import load_config\nload_config('quickstart')\n"
    program += "import configs\nprint(*configs.__path__)"
    assert python(repository, "-c", program) == [f"{repository}/configs"]


def registered(folder: Path, module: str = "tasks") -> list[str]:
    """What importing `module` registers, started in `folder`/work; OURS takes the place of our tasks."""
    write(folder / "ours", **OURS)
    (line,) = python(folder / "work", "-c", REGISTER, str(folder / "ours"), module)
    return line.split()


def mine(*imports: str) -> str:
    """A module that registers "mine"."""
    return "\n".join(["import sys", *imports, "sys.registered.append('mine')"])


@pytest.mark.parametrize("layout", ["tasks__init", "tasks", "tasks__mine"], ids=["package", "file", "folder"])
def test_tasks_of_the_user_are_registered_and_ours_too(layout, tmp_path):
    write(tmp_path / "work", **{layout: mine()})
    assert sorted(registered(tmp_path)) == ["century", "mine", "quickstart"]


def test_a_task_module_named_in_full(tmp_path):
    write(tmp_path / "work", tasks__init="", tasks__mine=mine("from .quickstart import SPEECHES"))
    write(tmp_path / "work", my_package__my_tasks=mine())
    assert registered(tmp_path, "tasks.mine") == ["quickstart", "mine"]
    assert registered(tmp_path, "my_package.my_tasks") == ["mine"]


def test_a_task_module_that_is_hidden_is_not_registered_nor_what_needs_it(tmp_path):
    write(tmp_path / "work", tasks__quickstart=mine())
    assert registered(tmp_path) == ["mine"]


def test_a_broken_task_module_of_the_user_is_not_skipped(tmp_path):
    write(tmp_path / "work", tasks__quickstart=mine(), tasks__other="from .quickstart import missing")
    with pytest.raises(AssertionError, match="ImportError: cannot import name 'missing'"):
        registered(tmp_path)


def test_seqio_finds_tasks_of_the_user_and_ours(tmp_path):
    write(tmp_path, tasks__init=TASK)
    program = "import sys\nfrom denoise_jax.data.registry import find_task\n"
    program += "print(*(find_task(name, ['tasks']).name for name in sys.argv[1:]))"
    names = "mine quickstart quickstart_century quickstart_kinds"
    assert python(tmp_path, "-c", program, *names.split()) == [names]

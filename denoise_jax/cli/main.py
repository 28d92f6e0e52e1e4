"""Entry point: finds the sub-command and runs it; the user's mistakes become one line and exit code 2."""

import importlib
import os
import sys

from denoise_jax import __version__
from denoise_jax.errors import UserError, nearest

COMMANDS = {
    "config": "print a resolved configuration as JSON",
    "vocab": "train a SentencePiece vocabulary on a task or on text files",
    "corrupt": "show the noise on a text or on examples of a task",
    "train": "start a run, or go on with it",
    "evaluate": "measure a checkpoint on a split with fixed noise",
    "generate": "fill in the masks of a text",
    "import": "make a run of a BART or mBART folder of Hugging Face",
    "export": "write a checkpoint as such a folder",
}
_MODULES = {"import": "import_model"}  # where a command's name is none that a module can have


def main(argv: list[str] | None = None) -> int:
    """Runs `denoise-jax ARGV`; 0 done, 1 the run failed, 2 the user's mistake, told in one line."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"denoise-jax {__version__}")
        return 0
    # After everything installed, so that a user's own task and configuration modules are found.
    sys.path.append(os.getcwd())
    try:
        command = _command(argv[0])
        return importlib.import_module(f"denoise_jax.cli.{command}").main(argv[1:])
    except UserError as error:
        print(f"denoise-jax: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a path that cannot be read or written
        print(f"denoise-jax: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("denoise-jax: interrupted", file=sys.stderr)
        return 130


def _command(name: str) -> str:
    """The module of a command."""
    if name in COMMANDS:
        return _MODULES.get(name, name)
    raise UserError(f"there is no command {name!r}; {nearest(name, COMMANDS)}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: denoise-jax COMMAND ...",
            "",
            "Pretrains BART-style denoising encoder-decoders.",
            "",
            *lines,
            "",
            "`denoise-jax COMMAND --help` tells a command's arguments.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

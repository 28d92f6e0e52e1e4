"""Entry point: runs a sub-command; a user's mistake becomes one line on stderr and exit code 2."""

import importlib
import sys

from denoise_jax import __version__
from denoise_jax.errors import TEMPORARY, UserError, is_temporary, nearest

COMMANDS = {
    "config": "print a resolved configuration as JSON",
    "vocab": "train a SentencePiece vocabulary on a task or on text files",
    "corrupt": "show the noise on a text or on examples of a task",
    "train": "start or resume a run",
    "plan": "estimate memory, speed and cost of a run on TPUs, without TPUs",
    "resume": "go on with a run, with the configuration in its folder",
    "runs": "list runs",
    "checkpoints": "list and verify the checkpoints of a run",
    "evaluate": "measure a checkpoint on a split with fixed noise",
    "generate": "fill in the masks of a text, or answer a prompt",
    "import": "turn a BART or mBART folder from Hugging Face into a run",
    "export": "write a checkpoint as a folder for Hugging Face Transformers",
}


def main(argv: list[str] | None = None) -> int:
    """Runs `denoise-jax ARGV` and returns its exit code: 0 success, 1 a failed run, 2 a user's mistake,
    75 a disk or bucket that is full or cannot be reached, so that another try may succeed.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"denoise-jax {__version__}")
        return 0
    try:
        if argv[0] not in COMMANDS:
            raise UserError(f"unknown command {argv[0]!r}; {nearest(argv[0], COMMANDS)}")
        return importlib.import_module(f"denoise_jax.cli.{argv[0]}_command").main(argv[1:])
    except UserError as error:
        print(f"denoise-jax: {error}", file=sys.stderr)
        return TEMPORARY if is_temporary(error) else 2
    except OSError as error:  # a path that cannot be read or written
        reason = f"{error.filename}: {error.strerror or error}" if error.filename else error
        print(f"denoise-jax: {reason}", file=sys.stderr)
        return TEMPORARY if is_temporary(error) else 2
    except KeyboardInterrupt:
        print("denoise-jax: interrupted", file=sys.stderr)
        return 130


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
            "`denoise-jax COMMAND --help` lists a command's arguments.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

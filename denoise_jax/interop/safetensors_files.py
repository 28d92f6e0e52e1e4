"""Tensors in safetensors files: from one file or from shards, by name, and back. Nothing is unpickled."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from denoise_jax.errors import CheckpointError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "*.bin", "*.pt", "*.pth", "*.ckpt")

# Names of the safetensors format. All of them fit into float32 without rounding.
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),  # importing ml_dtypes is also what lets safetensors read it
}

_CONVERSION = (
    'python -c "import transformers as t; m = t.AutoModelForSeq2SeqLM.from_pretrained({folder!r}); '
    "m.save_pretrained({output!r}); "
    't.AutoTokenizer.from_pretrained({folder!r}).save_pretrained({output!r})"'
)


class TensorFiles:
    """The tensors of a Hugging Face folder, read one at a time.

    Names are without the `model.` that files of a bare encoder-decoder lack and others have: `name` in what
    follows is such a name, and messages give the name in the file.

    Raises:
      CheckpointError: no safetensors, only pickles, or a file that is missing, cut short or damaged.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._files: dict[str, tuple[Path, str]] = {}  # name → file and the name in it
        self._open: tuple[Path, object] | None = None
        for file in _files(self.folder):
            for full in self._handle(file).keys():  # noqa: SIM118  (it is no dict)
                name = full.removeprefix("model.")
                if name in self._files:
                    other, other_name = self._files[name]
                    raise CheckpointError(
                        f"tensor {full} of {file} is there twice: also {other_name} of {other}"
                    )
                self._files[name] = file, full
        self._check_index()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def where(self, name: str) -> str:
        """The tensor and its file, for messages."""
        file, full = self._files[name]
        return f"tensor {full} of {file}"

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape, from the file's header."""
        return tuple(self._slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """float32, float16 or bfloat16; CheckpointError for any other."""
        found = self._slice(name).get_dtype()
        if found not in FLOATS:
            raise CheckpointError(f"{self.where(name)} is {found}; only {', '.join(FLOATS)} are read")
        return FLOATS[found]

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32, exactly."""
        self.dtype(name)
        file, full = self._files[name]
        try:
            return self._handle(file).get_tensor(full).astype(np.float32)
        except Exception as error:  # safetensors' own class of errors has no base of its own
            raise CheckpointError(f"{self.where(name)} cannot be read: {error}") from None

    def _slice(self, name: str):
        file, full = self._files[name]
        return self._handle(file).get_slice(full)

    def _handle(self, file: Path):
        """The opened file; one at a time is held open."""
        if self._open is None or self._open[0] != file:
            try:
                self._open = file, safetensors.safe_open(file, framework="numpy")
            except FileNotFoundError:
                raise CheckpointError(f"{file} is missing: {INDEX} names it") from None
            except Exception as error:
                raise CheckpointError(f"{file} is damaged or cut short: {error}; fetch it again") from None
        return self._open[1]

    def _check_index(self) -> None:
        """Every tensor that the index promises is in the file that it names."""
        for full, shard in _weight_map(self.folder).items():
            file, _ = self._files.get(full.removeprefix("model."), (None, None))
            if file is None or file.name != shard:
                raise CheckpointError(
                    f"{self.folder / INDEX} names tensor {full} of {shard}, which is not in it"
                )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; give one with config.json and {WEIGHTS}")
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        return [folder / shard for shard in sorted(set(_weight_map(folder).values()))]
    pickles = sorted({file.name for pattern in PICKLES for file in folder.glob(pattern)})
    if pickles:
        line = _CONVERSION.format(folder=str(folder), output=f"{folder}-safetensors")
        raise CheckpointError(
            f"{folder} has weights only as a pickle, {pickles[0]}: reading one can run code. It is not read "
            f"here; where transformers and torch are installed, and if you trust the file, convert it: {line}"
        )
    raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}")


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor → shard; empty where the folder is not sharded."""
    file = folder / INDEX
    if (folder / WEIGHTS).exists() or not file.exists():
        return {}
    try:
        shards = json.loads(file.read_bytes())["weight_map"]
        outside = [shard for shard in shards.values() if Path(shard).name != shard]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f'{file} is no index of shards: a JSON object with "weight_map" is needed'
        ) from None
    if outside:
        raise CheckpointError(f"{file} names {outside[0]!r}, which is not a file of its folder")
    if not shards:
        raise CheckpointError(f"{file} names no tensor")
    return shards


def write(
    folder: Path, tensors: Iterable[tuple[str, np.ndarray]], sizes: Mapping[str, int], max_shard_bytes: int
) -> list[Path]:
    """Writes `tensors` as model.safetensors, or as shards of at most `max_shard_bytes` and their index.

    Args:
      tensors: (name, array), made one at a time; no more than a shard of them is held.
      sizes: bytes of each tensor, in the order of `tensors`. A tensor above the limit has a shard of its own.

    Returns:
      The files written, without the index.
    """
    shards = _shards(sizes, max_shard_bytes)
    names = {name: number for number, shard in enumerate(shards, 1) for name in shard}
    single = len(shards) == 1

    def file(number: int) -> Path:
        return folder / (WEIGHTS if single else f"model-{number:05d}-of-{len(shards):05d}.safetensors")

    held: dict[str, np.ndarray] = {}
    for name, array in tensors:
        held[name] = np.ascontiguousarray(array)
        if len(held) == len(shards[names[name] - 1]):
            # transformers looks for this entry
            safetensors.numpy.save_file(held, file(names[name]), metadata={"format": "pt"})
            held = {}
    if not single:
        index = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": {name: file(number).name for name, number in names.items()},
        }
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return [file(number) for number in range(1, len(shards) + 1)]


def _shards(sizes: Mapping[str, int], max_shard_bytes: int) -> list[list[str]]:
    """Names in their order, cut where the next tensor would exceed the limit."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards

"""Reads and writes tensors by name in safetensors files, single or sharded. Nothing is unpickled."""

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

# Names in the safetensors format. All convert to float32 exactly.
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),  # safetensors can read it once ml_dtypes is imported
}

_CONVERSION = (
    'python -c "import transformers as t; m = t.AutoModelForSeq2SeqLM.from_pretrained({folder!r}); '
    "m.save_pretrained({output!r}); "
    't.AutoTokenizer.from_pretrained({folder!r}).save_pretrained({output!r})"'
)


class TensorFiles:
    """The tensors of a Hugging Face folder, read one at a time.

    Names have no `model.` prefix, which is missing in files of a bare encoder-decoder. Messages give the name
    in the file.

    Raises:
      CheckpointError: no safetensors files, only pickles, or a file that is missing, truncated or damaged.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._files: dict[str, tuple[Path, str]] = {}  # name → (file, name in the file)
        self._open: tuple[Path, object] | None = None
        for file in _files(self.folder):
            for full in self._handle(file).keys():  # noqa: SIM118  (not a dict)
                name = full.removeprefix("model.")
                if name in self._files:
                    other, other_name = self._files[name]
                    raise CheckpointError(
                        f"tensor {full} of {file} is a duplicate of {other_name} of {other}"
                    )
                self._files[name] = file, full
        self._check_index()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def where(self, name: str) -> str:
        """The tensor and its file, for error messages."""
        file, full = self._files[name]
        return f"tensor {full} of {file}"

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, from the header of the file."""
        return tuple(self._slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """float32, float16 or bfloat16; CheckpointError for other dtypes."""
        found = self._slice(name).get_dtype()
        if found not in FLOATS:
            raise CheckpointError(f"{self.where(name)} is {found}; only {', '.join(FLOATS)} are supported")
        return FLOATS[found]

    def read(self, name: str) -> np.ndarray:
        """The tensor, converted to float32 without rounding."""
        self.dtype(name)
        file, full = self._files[name]
        try:
            return self._handle(file).get_tensor(full).astype(np.float32)
        except Exception as error:  # SafetensorError derives from Exception directly
            raise CheckpointError(f"{self.where(name)} cannot be read: {error}") from None

    def _slice(self, name: str):
        file, full = self._files[name]
        return self._handle(file).get_slice(full)

    def _handle(self, file: Path):
        """The open file. Only one file is open at a time."""
        if self._open is None or self._open[0] != file:
            try:
                self._open = file, safetensors.safe_open(file, framework="numpy")
            except FileNotFoundError:
                raise CheckpointError(f"{file} is missing, but listed in {INDEX}") from None
            except Exception as error:
                raise CheckpointError(f"{file} is damaged or truncated: {error}; download it again") from None
        return self._open[1]

    def _check_index(self) -> None:
        """CheckpointError unless every tensor in the index is in the file that the index names."""
        for full, shard in _weight_map(self.folder).items():
            file, _ = self._files.get(full.removeprefix("model."), (None, None))
            if file is None or file.name != shard:
                raise CheckpointError(
                    f"{self.folder / INDEX} lists tensor {full} in {shard}, but it is not there"
                )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give one with config.json and {WEIGHTS}")
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        return [folder / shard for shard in sorted(set(_weight_map(folder).values()))]
    pickles = sorted({file.name for pattern in PICKLES for file in folder.glob(pattern)})
    if pickles:
        line = _CONVERSION.format(folder=str(folder), output=f"{folder}-safetensors")
        raise CheckpointError(
            f"{folder} has its weights only as a pickle, {pickles[0]}, and reading a pickle can run code; "
            f"if you trust the file, convert it where transformers and torch are installed: {line}"
        )
    raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}")


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor → shard; empty if the folder is not sharded."""
    file = folder / INDEX
    if (folder / WEIGHTS).exists() or not file.exists():
        return {}
    try:
        shards = json.loads(file.read_bytes())["weight_map"]
        outside = [shard for shard in shards.values() if Path(shard).name != shard]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f'{file} is not an index of shards, which is a JSON object with a "weight_map"'
        ) from None
    if outside:
        raise CheckpointError(f"{file} names {outside[0]!r}, which is not a file in the same folder")
    if not shards:
        raise CheckpointError(f"{file} lists no tensors")
    return shards


def write(
    folder: Path, tensors: Iterable[tuple[str, np.ndarray]], sizes: Mapping[str, int], max_shard_bytes: int
) -> list[Path]:
    """Writes `tensors` to model.safetensors, or to shards of at most `max_shard_bytes` and their index.

    Args:
      tensors: pairs of name and array, consumed one by one; at most one shard is held in memory.
      sizes: bytes of each tensor, in the same order. A tensor above the limit gets a shard of its own.

    Returns:
      The paths of the weight files, without the index.
    """
    shards = _shards(sizes, max_shard_bytes)
    shard_of = {name: number for number, shard in enumerate(shards, 1) for name in shard}
    single = len(shards) == 1

    def file(number: int) -> Path:
        return folder / (WEIGHTS if single else f"model-{number:05d}-of-{len(shards):05d}.safetensors")

    held: dict[str, np.ndarray] = {}
    for name, array in tensors:
        held[name] = np.ascontiguousarray(array)
        if len(held) == len(shards[shard_of[name] - 1]):
            # Transformers requires this entry
            safetensors.numpy.save_file(held, file(shard_of[name]), metadata={"format": "pt"})
            held = {}
    if not single:
        index = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": {name: file(number).name for name, number in shard_of.items()},
        }
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return [file(number) for number in range(1, len(shards) + 1)]


def _shards(sizes: Mapping[str, int], max_shard_bytes: int) -> list[list[str]]:
    """The names, in order, grouped into shards within the limit."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards

"""Parameters from Hugging Face tensors and back, tensor by tensor.

Their token table lies here in the order of our ids, and is padded with zeros; their position tables lose
the two rows that no position uses, and get zeros for them on the way back; their matrices are transposed;
the layers of a stack are laid on a leading axis. No number is rounded on the way in.

Shape letters: V rows of their token table, W rows of ours, D width.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from denoise_jax.config import ModelConfig
from denoise_jax.errors import CheckpointError
from denoise_jax.interop.safetensors_files import DTYPES, TensorFiles
from denoise_jax.interop.tensor_names import (
    BIAS,
    OUTPUT,
    POSITION_OFFSET,
    TABLE,
    TABLE_COPIES,
    Part,
    full_name,
    leaf_shapes,
    parts,
)

# Version numbers that fairseq left in old files.
_IGNORED = ("encoder.version", "decoder.version")

Track = Callable[[Sequence[Part]], Iterable[Part]]  # passes the parts on, and shows how far it is


def read_params(
    files: TensorFiles,
    config: ModelConfig,
    rows: int,
    hf_ids: np.ndarray,
    *,
    resize_vocabulary: bool = False,
    track: Track = iter,
) -> dict:
    """Our parameters, a nested dict of float32 arrays.

    Args:
      rows: of their token table, as their config.json says.
      hf_ids: int [len(vocabulary)]; the row of their table for each of our ids.
      resize_vocabulary: accept that `rows` is not the size of the vocabulary: rows beyond it are dropped, and
        a token without a row gets the mean of all rows.

    Raises:
      CheckpointError: a tensor is missing, not expected, of another shape, or not the copy that it should
        be; or `rows` is not the size of the vocabulary.
    """
    if rows != len(hf_ids) and not resize_vocabulary:
        raise CheckpointError(
            f"{files.folder}: the token table has {rows} rows (vocab_size), the tokenizer "
            f"{len(hf_ids)} tokens; with --resize-vocabulary rows beyond the tokenizer are dropped, "
            "and tokens without a row get the mean of all rows"
        )
    wanted = list(parts(config, rows))
    source = _table_name(files, config)
    _check_names(files, {source if part.name == TABLE else part.name for part in wanted})
    _check_copies(files, config, source)
    _check_bias(files, rows)
    leaves = {path: np.zeros(shape, np.float32) for path, shape in leaf_shapes(config).items()}
    for part in track(wanted):
        tensor = _read(files, source if part.name == TABLE else part.name, part.shape)
        _put(leaves[part.path], part, tensor, hf_ids)
    return _nested(leaves)


def compute_dtype(files: TensorFiles) -> str:
    """What the activations of these weights should be: bfloat16 where the weights are, and float32 otherwise.

    float16 has more digits than bfloat16, which would round such weights.
    """
    table = next((name for name in (TABLE, *TABLE_COPIES, OUTPUT) if name in files), None)
    return "bfloat16" if table and files.dtype(table) == "bfloat16" else "float32"


def _put(leaf: np.ndarray, part: Part, tensor: np.ndarray, hf_ids: np.ndarray) -> None:
    """Writes one of their tensors to its place in a leaf of ours."""
    if part.kind == "tokens":
        leaf[: len(hf_ids)] = _rows(tensor, hf_ids)
    elif part.kind == "output":
        leaf[:, : len(hf_ids)] = _rows(tensor, hf_ids).T
    elif part.kind == "positions":
        leaf[:] = tensor[POSITION_OFFSET:]
    else:
        leaf[... if part.layer is None else part.layer] = tensor.T


def _rows(table_VD: np.ndarray, hf_ids: np.ndarray) -> np.ndarray:
    """The table in the order of our ids; the mean row where it has none."""
    missing = hf_ids >= len(table_VD)
    rows_WD = table_VD[np.where(missing, 0, hf_ids)]
    if missing.any():
        rows_WD[missing] = table_VD.mean(axis=0, dtype=np.float64).astype(np.float32)
    return rows_WD


def tensors(
    params: Mapping, config: ModelConfig, hf_ids: np.ndarray, dtype: str = "float32"
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, array) of each of their tensors, in the order of `tensor_sizes`; made when asked for.

    `params` are NumPy arrays, nested as ours are. CheckpointError for a number that `dtype` cannot hold.
    """
    for part, name in _written(config, len(hf_ids)):
        if part is None:
            yield name, np.zeros((1, len(hf_ids)), DTYPES[dtype])
            continue
        leaf = functools.reduce(lambda node, word: node[word], part.path, params)
        tensor = _take(leaf if part.layer is None else leaf[part.layer], part, hf_ids)
        yield name, _cast(tensor, name, dtype)


def _take(leaf: np.ndarray, part: Part, hf_ids: np.ndarray) -> np.ndarray:
    """One of their tensors from a leaf of ours (of a layer, where it has layers)."""
    if part.kind in ("tokens", "output"):
        table_WD = leaf if part.kind == "tokens" else leaf.T
        table_VD = np.empty(part.shape, np.float32)
        table_VD[hf_ids] = table_WD[: len(hf_ids)]
        return table_VD
    if part.kind == "positions":
        return np.concatenate([np.zeros((POSITION_OFFSET, leaf.shape[1]), np.float32), leaf])
    return leaf.T


def _cast(tensor: np.ndarray, name: str, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = tensor.astype(DTYPES[dtype])
    if not np.isfinite(cast).all() and np.isfinite(tensor).all():
        raise CheckpointError(f"tensor {name} holds numbers beyond {dtype}; choose another --dtype")
    return cast


def tensor_sizes(config: ModelConfig, rows: int, dtype: str = "float32") -> dict[str, int]:
    """Bytes of each tensor that `tensors` makes."""
    width = DTYPES[dtype].itemsize
    return {
        name: width * (rows if part is None else int(np.prod(part.shape)))
        for part, name in _written(config, rows)
    }


def _written(config: ModelConfig, rows: int) -> Iterator[tuple[Part | None, str]]:
    """(part, name in the file) of what a folder of theirs holds; part None: the bias of the logits, zeros.

    Where the output has a table of its own, transformers takes the table of the encoder and that of the
    decoder for others too, though the original BART has one: it is written three times then.
    """
    for part in parts(config, rows):
        yield part, full_name(part.name)
        if part.name == TABLE and not config.tie_embeddings:
            yield from ((part, full_name(copy)) for copy in TABLE_COPIES)
    if config.num_classes is None:
        yield None, BIAS


def _table_name(files: TensorFiles, config: ModelConfig) -> str:
    """The name under which the token table is there: any of its copies will do."""
    copies = (TABLE, *TABLE_COPIES) + ((OUTPUT,) if config.tie_embeddings else ())
    return next((name for name in copies if name in files), TABLE)


def _check_names(files: TensorFiles, wanted: set[str]) -> None:
    missing = sorted(wanted - set(files))
    if missing:
        raise CheckpointError(
            f"{files.folder} lacks tensor {full_name(missing[0])} "
            f"({len(missing)} of {len(wanted)} are missing)"
        )
    known = wanted | {TABLE, OUTPUT, BIAS, *TABLE_COPIES, *_IGNORED}
    unexpected = sorted(set(files) - known)
    if unexpected:
        raise CheckpointError(
            f"{files.where(unexpected[0])} is no part of the model that config.json describes "
            f"({len(unexpected)} such tensors)"
        )


def _check_copies(files: TensorFiles, config: ModelConfig, source: str) -> None:
    """The table is one here: copies under other names must be equal."""
    copies = (TABLE, *TABLE_COPIES) + ((OUTPUT,) if config.tie_embeddings else ())
    found = [name for name in copies if name in files and name != source]
    table = files.read(source) if found else None
    for name in found:
        if not np.array_equal(files.read(name), table, equal_nan=True):
            said = f"tie_word_embeddings is {str(config.tie_embeddings).lower()}"
            raise CheckpointError(
                f"{files.where(name)} differs from {files.where(source)}; {said}, and one token table serves "
                "encoder and decoder here" + (", and the output too" if name == OUTPUT else "")
            )


def _check_bias(files: TensorFiles, rows: int) -> None:
    """The bias of the logits is zero in every published model, and has no place here."""
    if BIAS in files and np.any(_read(files, BIAS, (1, rows))):
        raise CheckpointError(
            f"{files.where(BIAS)} is not zero; a bias of the logits has no place in this model"
        )


def _read(files: TensorFiles, name: str, shape: tuple[int, ...]) -> np.ndarray:
    found = files.shape(name)
    if found != shape:
        why = ", max_position_embeddings + 2 rows" if name.endswith("embed_positions.weight") else ""
        raise CheckpointError(
            f"{files.where(name)} has shape {found}, but config.json asks for {shape}{why}: one of the two "
            "was changed without the other"
        )
    return files.read(name)


def _nested(leaves: Mapping[tuple[str, ...], np.ndarray]) -> dict:
    tree: dict = {}
    for path, leaf in leaves.items():
        node = tree
        for word in path[:-1]:
            node = node.setdefault(word, {})
        node[path[-1]] = leaf
    return tree

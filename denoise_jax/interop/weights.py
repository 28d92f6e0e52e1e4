"""Converts Hugging Face tensors to our parameters and back, one tensor at a time.

Rows of the token embedding are permuted to the order of our ids and padded with zeros; the two unused rows of
the position embeddings are dropped, and written as zeros on export; matrices are transposed; layers are
stacked on a leading axis. Imported values are never rounded.

Shape letters: V rows of their token embedding, W tokens in the vocabulary, D width.
"""

import functools
from collections.abc import Callable, Iterator, Mapping

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

# Version numbers in old files, written by fairseq.
_IGNORED = ("encoder.version", "decoder.version")


def read_params(
    files: TensorFiles,
    config: ModelConfig,
    rows: int,
    hf_ids: np.ndarray,
    *,
    resize_vocabulary: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Reads our parameters, a nested dict of float32 arrays.

    Args:
      rows: rows of their token embedding, V, according to config.json.
      hf_ids: int [W], the row of their embedding for each of our ids.
      resize_vocabulary: if V and W differ, drop the rows that no token uses, and give each token without a
        row the mean of all rows.
      progress: called with (tensors read, tensors in total).

    Raises:
      CheckpointError: a tensor is missing, unexpected or of another shape; copies of the token embedding
        differ; or V and W differ, without `resize_vocabulary`.
    """
    if rows != len(hf_ids) and not resize_vocabulary:
        raise CheckpointError(
            f"{files.folder}: the token embedding has {rows} rows (vocab_size), but the tokenizer has "
            f"{len(hf_ids)} tokens; with --resize-vocabulary, rows without a token are dropped and tokens "
            "without a row get the mean of all rows"
        )
    wanted = list(parts(config, rows))
    source = _table_name(files, config)
    _check_names(files, {source if part.name == TABLE else part.name for part in wanted})
    _check_copies(files, config, source)
    _check_bias(files, rows)
    leaves = {path: np.zeros(shape, np.float32) for path, shape in leaf_shapes(config).items()}
    for done, part in enumerate(wanted, 1):
        tensor = _read(files, source if part.name == TABLE else part.name, part.shape)
        _put(leaves[part.path], part, tensor, hf_ids)
        if progress is not None:
            progress(done, len(wanted))
    return _nested(leaves)


def compute_dtype(files: TensorFiles) -> str:
    """The compute dtype for these weights: bfloat16 if they are stored as bfloat16, otherwise float32.

    float16 weights need float32: bfloat16 has fewer bits of mantissa and would round them.
    """
    table = next((name for name in (TABLE, *TABLE_COPIES, OUTPUT) if name in files), None)
    return "bfloat16" if table and files.dtype(table) == "bfloat16" else "float32"


def _put(leaf: np.ndarray, part: Part, tensor: np.ndarray, hf_ids: np.ndarray) -> None:
    """Writes one of their tensors to its place in one of our leaves."""
    if part.kind == "tokens":
        leaf[: len(hf_ids)] = _rows(tensor, hf_ids)
    elif part.kind == "output":
        leaf[:, : len(hf_ids)] = _rows(tensor, hf_ids).T
    elif part.kind == "positions":
        leaf[:] = tensor[POSITION_OFFSET:]
    else:
        leaf[... if part.layer is None else part.layer] = tensor.T


def _rows(table_VD: np.ndarray, hf_ids: np.ndarray) -> np.ndarray:
    """Rows in the order of our ids, [W, D]; tokens without a row get the mean of all rows."""
    missing = hf_ids >= len(table_VD)
    rows_WD = table_VD[np.where(missing, 0, hf_ids)]
    if missing.any():
        rows_WD[missing] = table_VD.mean(axis=0, dtype=np.float64).astype(np.float32)
    return rows_WD


def tensors(
    params: Mapping, config: ModelConfig, hf_ids: np.ndarray, dtype: str = "float32"
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name and array of each Hugging Face tensor, in the order of `tensor_sizes`.

    Args:
      params: our parameters, a nested dict of NumPy arrays.
      hf_ids: int [W], the Hugging Face id of each of our ids.
      dtype: "float32", "float16" or "bfloat16".

    Raises:
      CheckpointError: a finite value is too large for `dtype`.
    """
    for part, name in _written(config, len(hf_ids)):
        if part is None:
            yield name, np.zeros((1, len(hf_ids)), DTYPES[dtype])
            continue
        leaf = functools.reduce(lambda node, word: node[word], part.path, params)
        tensor = _take(leaf if part.layer is None else leaf[part.layer], part, hf_ids)
        yield name, _cast(tensor, name, dtype)


def _take(leaf: np.ndarray, part: Part, hf_ids: np.ndarray) -> np.ndarray:
    """One of their tensors, from our leaf or from one layer of it."""
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
        raise CheckpointError(f"tensor {name} has values too large for {dtype}; choose another dtype")
    return cast


def tensor_sizes(config: ModelConfig, rows: int, dtype: str = "float32") -> dict[str, int]:
    """The size in bytes of each tensor that `tensors` yields, by name."""
    width = DTYPES[dtype].itemsize
    return {
        name: width * (rows if part is None else int(np.prod(part.shape)))
        for part, name in _written(config, rows)
    }


def _written(config: ModelConfig, rows: int) -> Iterator[tuple[Part | None, str]]:
    """Yields (part, name in the file) of each tensor; part None is the bias of the logits, which is zero.

    If the output is untied, Transformers has separate token embeddings for encoder and decoder as well. We
    share one, as the original BART does, so it is written three times.
    """
    for part in parts(config, rows):
        yield part, full_name(part.name)
        if part.name == TABLE and not config.tie_embeddings:
            yield from ((part, full_name(copy)) for copy in TABLE_COPIES)
    if config.num_classes is None:
        yield None, BIAS


def _table_name(files: TensorFiles, config: ModelConfig) -> str:
    """The name under which the files have the token embedding: its own or that of a copy."""
    copies = (TABLE, *TABLE_COPIES) + ((OUTPUT,) if config.tie_embeddings else ())
    return next((name for name in copies if name in files), TABLE)


def _check_names(files: TensorFiles, wanted: set[str]) -> None:
    missing = sorted(wanted - set(files))
    if missing:
        raise CheckpointError(
            f"{files.folder} has no tensor {full_name(missing[0])} "
            f"({len(missing)} of {len(wanted)} tensors are missing)"
        )
    known = wanted | {TABLE, OUTPUT, BIAS, *TABLE_COPIES, *_IGNORED}
    unexpected = sorted(set(files) - known)
    if unexpected:
        raise CheckpointError(
            f"{files.where(unexpected[0])} is not part of the model described by config.json "
            f"({len(unexpected)} such tensors)"
        )


def _check_copies(files: TensorFiles, config: ModelConfig, source: str) -> None:
    """CheckpointError if copies of the token embedding differ: our model has only one."""
    copies = (TABLE, *TABLE_COPIES) + ((OUTPUT,) if config.tie_embeddings else ())
    found = [name for name in copies if name in files and name != source]
    table = files.read(source) if found else None
    for name in found:
        if not np.array_equal(files.read(name), table, equal_nan=True):
            tied = f"tie_word_embeddings is {str(config.tie_embeddings).lower()}"
            raise CheckpointError(
                f"{files.where(name)} differs from {files.where(source)}; {tied}, and our model has one "
                f"token embedding for encoder and decoder{', and the output too' * (name == OUTPUT)}"
            )


def _check_bias(files: TensorFiles, rows: int) -> None:
    """CheckpointError if the logits have a bias. It is zero in all published models; ours has none."""
    if BIAS in files and np.any(_read(files, BIAS, (1, rows))):
        raise CheckpointError(f"{files.where(BIAS)} is not zero, but our model has no bias on its logits")


def _read(files: TensorFiles, name: str, shape: tuple[int, ...]) -> np.ndarray:
    found = files.shape(name)
    if found != shape:
        why = ", max_position_embeddings + 2 rows" if name.endswith("embed_positions.weight") else ""
        raise CheckpointError(
            f"{files.where(name)} has shape {found}, but config.json requires {shape}{why}: one of the two "
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

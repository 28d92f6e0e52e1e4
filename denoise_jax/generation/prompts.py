"""Prompts to outputs with a trained model, by the options of a `GenerationConfig`. Needs no TensorFlow."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.config import GenerationConfig, ModelConfig
from denoise_jax.errors import UserError, nearest
from denoise_jax.generation.logits_processors import Search
from denoise_jax.generation.search import Generated, generate_tokens
from denoise_jax.parallel.mesh import BATCH_AXES, batch_shards
from denoise_jax.runs.load_model import LoadedModel
from denoise_jax.vocabulary.base import EOS_ID, Vocabulary

# Prompts are padded to one of these lengths or a multiple of the last: few shapes are compiled, and at most
# a third of a row is padding (half of the shortest).
_LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class Output(NamedTuple):
    """What was written: ids with the closing </s>, the score that ranked it, whether it ended by itself."""

    ids: tuple[int, ...]
    score: float
    complete: bool


def generate(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    options: GenerationConfig,
    *,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
) -> list[list[Output]]:
    """For each prompt its `options.num_return_sequences` outputs, best first.

    Prompts of like length go through the model together; the rows of a batch are spread over the mesh. What
    is written for a prompt depends neither on the others nor on `batch_size`, but for rounding.

    Args:
      model: of `load_model`.
      prompts: ids without padding, as `encode_prompt` gives them.
      options: those of the run are `model.config.generation`.
      batch_size: prompts that go through the model together; rounded up to the devices that share a batch.
      progress: called with the number of prompts done, after each batch.

    Raises:
      UserError: options that do not fit the model or its vocabulary; a prompt that is empty or too long.
    """
    search = resolve(model, options)
    limit = model.config.model.max_positions
    for number, ids in enumerate(prompts, 1):
        if not 0 < len(ids) <= limit:
            raise UserError(
                f"prompt {number} has {len(ids)} tokens, but model.max_positions={limit} allows 1 to {limit}"
            )
    run = _compiled(model.config.model, search, model.mesh)
    shards = batch_shards(model.mesh)
    rows_of = NamedSharding(model.mesh, P(BATCH_AXES))
    outputs: list[list[Output]] = [[] for _ in prompts]
    done = 0
    for numbers in _batches([len(ids) for ids in prompts], batch_size):
        rows = -(-len(numbers) // shards) * shards if len(prompts) <= batch_size else batch_size
        rows = -(-rows // shards) * shards
        tokens_BS = _padded([prompts[number] for number in numbers], rows, limit)
        # A prompt's draws come from its place among all prompts, whatever batch it is in.
        numbers_B = np.pad(np.asarray(numbers, np.uint32), (0, rows - len(numbers)))
        found = run(model.params, jax.device_put(tokens_BS, rows_of), numbers_B, np.uint32(options.seed))
        found = jax.device_get(found)
        for row, number in enumerate(numbers):
            outputs[number] = _outputs(found, row)
        done += len(numbers)
        if progress is not None:
            progress(done)
    return outputs


def encode_prompt(vocabulary: Vocabulary, text: str, options: GenerationConfig) -> list[int]:
    """Ids of a text as the encoder reads it: `<mask>` is a symbol, </s> and options.language close it.

    Raises:
      UserError: options.language is no token of the vocabulary.
    """
    language = _token(vocabulary, "language", options.language)
    end = [EOS_ID] if language is None else [EOS_ID, language]
    return [*vocabulary.opening_ids, *vocabulary.encode_masked(text), *end]


def resolve(model: LoadedModel, options: GenerationConfig) -> Search:
    """The options with tokens as ids and the longest output as a number.

    Raises:
      UserError: a token that the vocabulary lacks, an output longer than the model's positions, or shorter
        than options.min_new_tokens, or a model that puts texts in classes.
    """
    config, vocabulary = model.config, model.vocabulary
    if config.model.num_classes is not None:
        raise UserError(
            f"this model puts texts in model.num_classes={config.model.num_classes} classes: "
            "it writes no text"
        )
    longest = config.data.max_chunk_length if options.max_new_tokens is None else options.max_new_tokens
    limit = config.model.max_positions
    if longest > limit:
        raise UserError(f"generation.max_new_tokens={longest} is above model.max_positions={limit}")
    if options.min_new_tokens > longest:
        raise UserError(
            f"generation.min_new_tokens={options.min_new_tokens} is above max_new_tokens={longest}"
        )
    start = _token(vocabulary, "start", options.start)
    if start is None:
        start = _token(vocabulary, "language", options.language)
    shared = {name: getattr(options, name) for name in Search._fields if name in type(options).model_fields}
    return Search(
        **{**shared, "max_new_tokens": longest},
        start_id=vocabulary.start_id if start is None else start,
        end_id=EOS_ID,
        forced_bos_id=_token(vocabulary, "forced_bos", options.forced_bos),
        forced_eos_id=_token(vocabulary, "forced_eos", options.forced_eos),
    )


def _token(vocabulary: Vocabulary, field: str, name: str | None) -> int | None:
    if name is None:
        return None
    index = vocabulary.piece_id(name)
    if index is None:
        known = [vocabulary.piece(i) for i in vocabulary.control_ids]
        raise UserError(f"generation.{field}={name!r} is no token of the vocabulary; {nearest(name, known)}")
    return index


@functools.lru_cache(maxsize=8)
def _compiled(config: ModelConfig, search: Search, mesh: Mesh):
    """run(params, tokens_BS, numbers_B, seed) -> Generated, the rows over the mesh, the result on all."""

    def run(params, tokens_BS, numbers_B, seed):
        keys_B = None
        if search.do_sample:
            keys_B = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(seed), number))(numbers_B)
        return generate_tokens(config, params, tokens_BS, search, keys_B)

    return jax.jit(run, out_shardings=NamedSharding(mesh, P()))


def _batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Numbers of prompts of like length, the longest first, so that memory runs out at once or never."""
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    yield from (order[first : first + batch_size] for first in range(0, len(order), batch_size))


def _padded(prompts: Sequence[Sequence[int]], rows: int, limit: int) -> np.ndarray:
    """int32 [rows, length]: the prompts padded with 0, and rows of padding only."""
    longest, step = max(map(len, prompts)), _LENGTHS[-1]
    length = next((length for length in _LENGTHS if length >= longest), -(-longest // step) * step)
    tokens_BS = np.zeros((rows, min(length, limit)), np.int32)
    for row, ids in zip(tokens_BS, prompts, strict=False):
        row[: len(ids)] = ids
    return tokens_BS


def _outputs(found: Generated, row: int) -> list[Output]:
    outputs = []
    for ids, length, score in zip(*(array[row] for array in found), strict=True):
        written = tuple(ids[:length].tolist())
        outputs.append(Output(written, float(score), written[-1:] == (EOS_ID,)))
    return outputs

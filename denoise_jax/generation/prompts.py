"""Prompts: from texts to token ids, and from token ids to outputs, in batches sharded over the mesh."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.config import GenerationConfig, ModelConfig
from denoise_jax.errors import UserError, nearest
from denoise_jax.generation.decoding import DecodingOptions
from denoise_jax.generation.search import GeneratedTokens, generate_tokens
from denoise_jax.parallel.mesh import BATCH_AXES, padded_batch_size
from denoise_jax.runs.load_model import LoadedModel
from denoise_jax.vocabulary.base import EOS_ID, Vocabulary

# Prompts are padded to one of these lengths, or to a multiple of the last: few shapes to compile, and at most
# a third of a row is padding (half of the shortest).
_LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class PromptError(UserError):
    """A prompt that cannot be used: `index` is its position among the prompts, `problem` what is wrong."""

    def __init__(self, index: int, problem: str):
        super().__init__(f"prompt {index + 1} {problem}")
        self.index, self.problem = index, problem


class GeneratedIds(NamedTuple):
    """An output: its ids with </s>, its score, and whether it ended by itself rather than being truncated."""

    ids: tuple[int, ...]
    score: float
    complete: bool


def encode_prompt(vocabulary: Vocabulary, text: str, options: GenerationConfig) -> list[int]:
    """Ids of a text as the encoder was trained to read it, with `<mask>` as the mask token.

    They end with </s>; options.language, if given, follows it or opens the text, as the vocabulary says.

    Raises:
      DataError: options.language is not a control symbol of the vocabulary.
    """
    special = vocabulary.special_tokens(options.language, field="generation.language")
    return [*special.opening, *vocabulary.encode_masked(text), *special.closing]


def generate_ids(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    options: GenerationConfig,
    *,
    batch_size: int = 32,
    progress: Callable[[int, int], object] | None = None,
) -> list[list[GeneratedIds]]:
    """The `options.num_return_sequences` outputs of each prompt, best first.

    Prompts of similar length share a batch, whose rows are sharded over the mesh. Apart from rounding, the
    outputs of a prompt depend neither on the other prompts nor on `batch_size`.

    Args:
      model: from `load_model`.
      prompts: ids without padding, as from `encode_prompt`.
      options: decoding options.
      batch_size: prompts per batch, rounded up to a multiple of the devices that share it.
      progress: called with (done, total) prompts after each batch.

    Raises:
      PromptError: a prompt that is empty or too long.
      UserError: options that do not fit the model or its vocabulary.
    """
    decoding_options = resolve_options(model, options)
    limit = model.config.model.max_positions
    for index, ids in enumerate(prompts):
        if not 0 < len(ids) <= limit:
            raise PromptError(
                index, f"has {len(ids)} tokens; the model takes 1 to {limit} (model.max_positions)"
            )
    run = _compiled(model.config.model, decoding_options, model.mesh)
    row_sharding = NamedSharding(model.mesh, P(BATCH_AXES))
    outputs: list[list[GeneratedIds]] = [[] for _ in prompts]
    done = 0
    for indices in _batches([len(ids) for ids in prompts], batch_size):
        rows = padded_batch_size(model.mesh, min(batch_size, len(prompts)))
        tokens_BS = _padded([prompts[index] for index in indices], rows, limit)
        indices_B = np.pad(np.asarray(indices, np.uint32), (0, rows - len(indices)))
        generated = run(
            model.params, jax.device_put(tokens_BS, row_sharding), indices_B, np.uint32(options.seed)
        )
        generated = jax.device_get(generated)
        for row, index in enumerate(indices):
            outputs[index] = _outputs(generated, row)
        done += len(indices)
        if progress is not None:
            progress(done, len(prompts))
    return outputs


def resolve_options(model: LoadedModel, options: GenerationConfig) -> DecodingOptions:
    """Options with token ids in place of names, and with `max_new_tokens` set.

    Raises:
      UserError: a token that is not in the vocabulary; an output length above the model's positions or below
        options.min_new_tokens; or a model with a classification head.
    """
    config, vocabulary = model.config, model.vocabulary
    if config.model.num_classes is not None:
        raise UserError(
            f"model.num_classes={config.model.num_classes}: this model predicts classes and cannot generate "
            "text; use `denoise-jax evaluate --predict`"
        )
    longest = config.data.max_chunk_length if options.max_new_tokens is None else options.max_new_tokens
    limit = config.model.max_positions
    if longest > limit:
        raise UserError(f"generation.max_new_tokens={longest} is above model.max_positions={limit}; lower it")
    if options.min_new_tokens > longest:
        raise UserError(
            f"generation.min_new_tokens={options.min_new_tokens} is above max_new_tokens={longest}; lower it"
        )
    for field in ("start", "forced_bos", "language", "target_language"):
        _token_id(vocabulary, field, getattr(options, field))
    start, forced_bos = options.first_tokens(vocabulary.language_opens)
    names = [name for name in DecodingOptions._fields if name in GenerationConfig.model_fields]
    return DecodingOptions(
        **{**{name: getattr(options, name) for name in names}, "max_new_tokens": longest},
        start_id=vocabulary.start_id if start is None else vocabulary.piece_id(start),
        end_id=EOS_ID,
        forced_bos_id=None if forced_bos is None else vocabulary.piece_id(forced_bos),
        forced_eos_id=_token_id(vocabulary, "forced_eos", options.forced_eos),
    )


def _token_id(vocabulary: Vocabulary, field: str, name: str | None) -> int | None:
    if name is None:
        return None
    index = vocabulary.piece_id(name)
    if index is None:
        known = [vocabulary.piece(i) for i in vocabulary.control_ids]
        raise UserError(f"generation.{field}={name!r} is not in the vocabulary; {nearest(name, known)}")
    return index


@functools.lru_cache(maxsize=8)
def _compiled(config: ModelConfig, options: DecodingOptions, mesh: Mesh):
    """run(params, tokens_BS, indices_B, seed) → GeneratedTokens, replicated on all devices.

    A prompt's random key depends on the seed and its index among all prompts, not on its batch.
    """

    def run(params, tokens_BS, indices_B, seed):
        keys_B = None
        if options.do_sample:
            keys_B = jax.vmap(lambda index: jax.random.fold_in(jax.random.key(seed), index))(indices_B)
        return generate_tokens(config, params, tokens_BS, options, keys_B)

    return jax.jit(run, out_shardings=NamedSharding(mesh, P()))


def _batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices of prompts of similar length, longest first, so that running out of memory shows at once."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    yield from (order[first : first + batch_size] for first in range(0, len(order), batch_size))


def _padded(prompts: Sequence[Sequence[int]], rows: int, limit: int) -> np.ndarray:
    """The prompts padded with 0 to one of `_LENGTHS`, and empty rows: int32 [rows, length]."""
    longest, multiple = max(map(len, prompts)), _LENGTHS[-1]
    length = next((length for length in _LENGTHS if length >= longest), -(-longest // multiple) * multiple)
    tokens_BS = np.zeros((rows, min(length, limit)), np.int32)
    for row, ids in zip(tokens_BS, prompts, strict=False):
        row[: len(ids)] = ids
    return tokens_BS


def _outputs(generated: GeneratedTokens, row: int) -> list[GeneratedIds]:
    outputs = []
    for ids, length, score in zip(*(array[row] for array in generated), strict=True):
        ids = tuple(ids[:length].tolist())
        outputs.append(GeneratedIds(ids, float(score), ids[-1:] == (EOS_ID,)))
    return outputs

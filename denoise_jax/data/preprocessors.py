"""SeqIO preprocessors that turn text or token ids into denoising examples.

`denoising(...)` is the complete list for a task; `corrupt(...)` alone works in any `seqio.Task` over ids.
The features of an example are int32: `inputs` [n] (the corrupted text), `targets` [t] (what the decoder
predicts), and the provenance of every token: `inputs_source`, `inputs_span`, `inputs_op` [n] (see
`corruption/record.py`), `targets_source` and `targets_kind` [t] (see `target_kinds.py`). Source positions
count the tokens of the clean text from 1. `targets` is the clean text, unless the corruption has the decoder
predict only a part of it.
"""

import copy
import dataclasses
import functools
import os
from collections.abc import Callable

import seqio
import tensorflow as tf

from denoise_jax.corruption import keys, presets, record
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.data.chunking import chunk_documents, tokenize_sentences
from denoise_jax.data.special_tokens import (
    clean_text_features,
    closes_sentences,
    noised_features,
    special_tokens_of,
)
from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import EOS_ID, ROTATION, SpecialTokens, Vocabulary
from denoise_jax.vocabulary.seqio import SeqioVocabulary, is_ours, of_seqio

EXAMPLES_PER_BATCH = 64  # examples noised together; changing it changes the noise of a run

PROVENANCE = ("inputs_source", "inputs_span", "inputs_op", "targets_source", "targets_kind")

CorruptionLike = str | Callable[[Symbols], record.Corruption]

# Noise has no Python control flow that depends on tensors, and converting it costs seconds of every start.
_no_autograph = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a dataset is read, which SeqIO does not pass on to preprocessors; see `Noise.bind`."""

    shard: int | tf.Tensor = 0  # index of the logical data shard, which keys the noise
    num_shards: int = 1  # needed if `shard` is a tensor
    # What a training step takes of this dataset: tokens, special tokens included, or examples if not
    # `packed`. None outside of training: schedules are at their end.
    per_step: float | None = None
    packed: bool = True
    provenance: bool = True  # emit all of PROVENANCE; training needs only `targets_kind`
    with_text: bool = False  # also emit `text`, `text_noise` [m]: the clean tokens and their TargetNoise


def denoising(task: str, corruption: CorruptionLike, *, language: str | None = None) -> list:
    """All preprocessors of a denoising task whose source gives examples with a string `text`.

    Args:
      task: name of the task. It keys the noise, so no two tasks share a random stream.
      corruption: name of a preset in `corruption/presets.py`, or a function that builds the corruption from
        the symbols of the vocabulary.
      language: a control symbol of the vocabulary. As in mBART (Liu et al. 2020), every sentence then ends in
        </s>, both sides end in the language token, and the decoder starts with it. In the vocabulary of an
        imported mBART-50 both sides begin with it and end in </s> instead.
    """
    tokenize, chunk = tokenize_sentences, chunk_documents
    if language is not None:
        tokenize, chunk = (functools.partial(step, language=language) for step in (tokenize, chunk))
    noise = corrupt(task, corruption, language=language)
    return [tokenize, seqio.CacheDatasetPlaceholder(), chunk, noise]


def output_features(vocabulary: Vocabulary | str | os.PathLike) -> dict[str, seqio.Feature]:
    """Output features of a denoising task. A vocabulary given by its path is read at first use."""
    feature = seqio.Feature(SeqioVocabulary(vocabulary), add_eos=True, dtype=tf.int32)
    return {"inputs": feature, "targets": feature}


def corrupt(
    task: str,
    corruption: CorruptionLike,
    *,
    symbols: Symbols | None = None,
    language: str | None = None,
    max_tokens: int | None = None,
) -> "Noise":
    """Preprocessor that corrupts `targets` into `inputs` and adds special tokens to both.

    Both sides are closed by </s> or the language token, and opened by <s> if the vocabulary opens texts
    (published BART). Noise never touches these; an opening token is the first token of the clean text that
    source positions count.

    Sentences are read from the feature `sentence_ids`; without it a text is one sentence. Empty texts are
    dropped. The key of an example's noise is SeqIO's seed for its batch of `EXAMPLES_PER_BATCH` examples,
    with the task, the data shard, the position in the batch and the content folded in: SeqIO alone gives the
    same seeds to all shards and tasks.

    Inputs longer than `sequence_length["inputs"]` are truncated before </s>, and target tokens that only the
    truncated part showed count as deleted. Targets are truncated likewise, on their own. So where the
    decoder predicts what sentinels hide, inputs should be allowed the length of the text.

    Args:
      task, corruption, language: see `denoising`.
      symbols: what the noise must know of the vocabulary. Required for vocabularies other than SentencePiece
        models and tokenizers; default: read from the vocabulary of the output features.
      max_tokens: longest text, for noise that could run out of sentinels. Default: the chunk length for
        texts with `sentence_ids`; for others, as much as both sides can hold together.

    Calling the preprocessor raises DataError, naming the task, if the noise cannot be built for the
    vocabulary or the lengths.
    """
    return Noise(task, corruption, symbols, language, max_tokens)


class Noise:
    """The preprocessor returned by `corrupt`; not a dataclass, whose fields SeqIO would set."""

    def __init__(
        self,
        task: str,
        corruption: CorruptionLike,
        symbols: Symbols | None = None,
        language: str | None = None,
        max_tokens: int | None = None,
    ):
        self.task, self.corruption, self.symbols = task, corruption, symbols
        self.language, self.max_tokens = language, max_tokens
        self.reading = Reading()
        self._traced: dict[tuple, Callable] = {}  # shared by all that are bound: see `_trace`

    def bind(self, reading: Reading) -> "Noise":
        """The same noise for a dataset that is read as `reading` says."""
        bound = copy.copy(self)
        bound.reading = reading
        return bound

    def __call__(self, dataset: tf.data.Dataset, output_features, sequence_length=None) -> tf.data.Dataset:
        vocabulary = output_features["targets"].vocabulary
        special = self._special_tokens(vocabulary)
        limits = {side: length - special.size for side, length in (sequence_length or {}).items()}
        has_sentences = "sentence_ids" in dataset.element_spec
        longest = limits.get("targets") if has_sentences else sum(limits.values())
        traced = self._trace(vocabulary, special, limits, self.max_tokens or longest)
        stream = self._stream()

        @seqio.map_over_dataset(num_seeds=1)
        @_no_autograph
        def noise(batch, seed):
            batch = {name: _ragged(feature) for name, feature in batch.items()}
            return traced(batch, seed[0] + seed[1] * 2**32, stream)

        wanted = [name for name in ("targets", "sentence_ids") if name in dataset.element_spec]
        if set(wanted) != set(dataset.element_spec):
            dataset = dataset.map(lambda example: {name: example[name] for name in wanted})
        batches = dataset.ragged_batch(EXAMPLES_PER_BATCH)
        if self.reading.per_step is not None:
            batches = batches.scan(tf.constant(0, tf.int64), self._step_counter(special))
        return noise(batches).unbatch()

    def _trace(
        self,
        vocabulary: seqio.Vocabulary,
        special: SpecialTokens,
        limits: dict[str, int],
        longest: int | None,
    ) -> Callable:
        """`_noise` as one TensorFlow function for all shards: building its graph takes most of a start."""
        reading = dataclasses.replace(self.reading, shard=0, num_shards=1, per_step=None)
        own = of_seqio(vocabulary) if self.symbols is None and is_ours(vocabulary) else None
        key = (reading, own, special, *sorted(limits.items()), longest)
        if key not in self._traced:
            apply = self._build(vocabulary, longest)
            noise = functools.partial(self._noise, apply=apply, special=special, limits=limits)
            self._traced[key] = tf.function(noise, autograph=False, reduce_retracing=True)
        return self._traced[key]

    def _noise(
        self,
        batch: dict[str, tf.RaggedTensor | tf.Tensor],
        seed: tf.Tensor,
        stream: tf.Tensor,
        *,
        apply: record.Corruption,
        special: SpecialTokens,
        limits: dict[str, int],
    ) -> dict[str, tf.RaggedTensor]:
        batch = _drop_empty(batch)
        clean = record.clean(batch["targets"], batch.get("sentence_ids"), batch.get("steps"))
        position = tf.range(tf.cast(clean.partition.nrows, tf.int64))
        key = keys.substream(seed + position, stream)
        noised = apply(clean, key + keys.content_keys(clean.targets, clean.partition))
        features = noised_features(noised, limits, special)
        if not self.reading.provenance:
            features = {name: features[name] for name in ("inputs", "targets", "targets_kind")}
        if special.start is not None:
            features["decoder_start"] = tf.fill([clean.partition.nrows, 1], special.start)
        if self.reading.with_text:
            features |= clean_text_features(noised, special)
        return features

    def _stream(self) -> tf.Tensor:
        """The constant of the random stream of this task and data shard: uint64 scalar."""
        shard = self.reading.shard
        if isinstance(shard, int):
            return keys.stream_constant(f"{self.task}/{shard}")
        constants = [keys.stream_constant(f"{self.task}/{i}") for i in range(self.reading.num_shards)]
        return tf.stack(constants)[shard]

    def _special_tokens(self, vocabulary: seqio.Vocabulary) -> SpecialTokens:
        """A language that closes texts does so alone: their last sentence already ends in </s>."""
        field = f"task {self.task!r}" + ": language" * (self.language is not None)
        special = special_tokens_of(vocabulary, self.language, field=field)
        return special._replace(closing=special.closing[-1:])

    def _build(self, vocabulary: seqio.Vocabulary, max_tokens: int | None) -> record.Corruption:
        symbols = self.symbols
        if symbols is None and not is_ours(vocabulary):
            raise DataError(
                f"task {self.task!r}: the mask of a {type(vocabulary).__name__} is unknown; "
                "give preprocessors.corrupt the argument symbols"
            )
        try:
            if symbols is None:
                closed = closes_sentences(vocabulary, self.language)
                symbols = noise_symbols(of_seqio(vocabulary), closed_sentences=closed)
            if callable(self.corruption):
                return self.corruption(symbols)
            lengths = {"max_tokens": max(max_tokens, 2)} if max_tokens else {}
            return presets.build(self.corruption, symbols, **lengths)
        except CorruptionError as error:
            raise DataError(f"task {self.task!r}: {error}") from None

    def _step_counter(self, special: SpecialTokens) -> Callable:
        """For `Dataset.scan`: adds to each example the training step that will read it."""

        @_no_autograph
        def count(seen, batch):
            sizes = tf.cast(_ragged(batch["targets"]).row_lengths(), tf.int64)
            taken = sizes + special.size if self.reading.packed else tf.ones_like(sizes)
            before = seen + tf.cumsum(taken, exclusive=True)
            step = tf.cast(tf.cast(before, tf.float64) / self.reading.per_step, tf.int64)
            return seen + tf.reduce_sum(taken), {**batch, "steps": step}

        return count


@functools.lru_cache(maxsize=8)
def noise_symbols(vocabulary: Vocabulary, *, closed_sentences: bool = False) -> Symbols:
    """What noise must know of a vocabulary: its symbols, and which ids begin words.

    With `closed_sentences`, sentences end in </s>, which moves with them.
    """
    return Symbols(
        mask_token=vocabulary.require_mask(),
        vocab_size=len(vocabulary),
        protected=vocabulary.control_ids,
        separator=EOS_ID if closed_sentences else None,
        rotation_token=vocabulary.symbol_id(ROTATION),
        sentinels=vocabulary.sentinel_ids,
        modes=vocabulary.mode_ids,
        word_starts=vocabulary.word_starts,
    )


def _ragged(feature: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor | tf.Tensor:
    """A batched feature as ragged, even if all examples have the same known length."""
    dense = isinstance(feature, tf.Tensor) and feature.shape.rank == 2
    return tf.RaggedTensor.from_tensor(feature) if dense else feature


def _drop_empty(batch: dict[str, tf.RaggedTensor | tf.Tensor]) -> dict[str, tf.RaggedTensor | tf.Tensor]:
    """The batch without its empty examples."""
    lengths = batch["targets"].row_lengths()
    nonempty = lengths > 0
    kept = tf.boolean_mask(lengths, nonempty)

    def part(feature: tf.RaggedTensor | tf.Tensor) -> tf.RaggedTensor | tf.Tensor:
        if isinstance(feature, tf.RaggedTensor):
            return tf.RaggedTensor.from_row_lengths(feature.flat_values, kept, validate=False)
        return tf.boolean_mask(feature, nonempty)

    return {name: part(feature) for name, feature in batch.items()}

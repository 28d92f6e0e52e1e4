"""SeqIO preprocessors: text → sentences → tokens → pieces → noise.

`denoising(...)` is the whole list for a task. Each part also works alone in any `seqio.Task`.
Features of an example, all int32: `inputs` [n] (corrupted) and `targets` [t] (what the decoder writes), and
where each token came from: `inputs_source`, `inputs_span`, `inputs_op` [n] (see `corruption/record.py`),
`targets_source` and `targets_kind` [t] (see `target_kinds.py`). Sources count the tokens of the clean
text from 1; but for corruptions that ask for a part of it, `targets` is the clean text.
"""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Mapping

import seqio
import tensorflow as tf

from denoise_jax.corruption import keys, presets, record
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.data.grouping import greedy_groups
from denoise_jax.data.sentence_splitting import split_sentences
from denoise_jax.data.special_tokens import frame_of, framed, framed_text, opening_of
from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import EOS_ID, ROTATION, Vocabulary
from denoise_jax.vocabulary.seqio import SeqioTokenizers, is_ours, of_seqio, seqio_vocabulary

WINDOW = 64  # examples that are given noise together; part of what a run's noise depends on

PROVENANCE = ("inputs_source", "inputs_span", "inputs_op", "targets_source", "targets_kind")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the datasets built at this moment are read; SeqIO tells preprocessors nothing of it.

    `per_step` is how much of this data shard a training step takes, in tokens of clean text and of what is
    around it, or in examples where `packed` is false; None where no training reads, and schedules are at
    their end.
    `shares` says which share of it each task of a mixture gives, by name.
    """

    shard: int = 0
    per_step: float | None = None
    packed: bool = True
    provenance: bool = True  # keep the columns that no training needs: PROVENANCE but for `targets_kind`
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    with_text: bool = False  # add features `text`, `text_noise` [m]: the clean tokens and their TargetNoise


# Noise has no Python control flow that depends on tensors, and translating it costs seconds of every start.
_as_it_is = tf.autograph.experimental.do_not_convert

_ONCE = Reading()
_reading: contextvars.ContextVar[Reading] = contextvars.ContextVar("reading", default=_ONCE)


@contextlib.contextmanager
def reading(how: Reading):
    """Datasets built here are read as `how` says."""
    token = _reading.set(how)
    try:
        yield
    finally:
        _reading.reset(token)


def denoising(
    task: str, corruption: str | Callable[[Symbols], record.Corruption], *, language: str | None = None
) -> list:
    """All preprocessors of a denoising task over a source of `text` examples.

    Args:
      task: name of the task; it keys the noise, so that no two tasks share a stream.
      corruption: name of a preset in `corruption/presets.py`, or a function that builds the noise from what
        it must know of the vocabulary.
      language: a control symbol of the vocabulary. As in mBART (Liu et al. 2020), each sentence then ends in
        </s>, both sides end in the language token, and the decoder starts from it.
    """
    tokenize = tokenize_sentences
    if language is not None:
        tokenize = functools.partial(tokenize_sentences, close_sentences=True)
    noise = corrupt(task, corruption, language=language)
    return [tokenize, seqio.CacheDatasetPlaceholder(), cut_documents, noise]


def output_features(vocabulary: str) -> dict[str, seqio.Feature]:
    """Features of a denoising task with the vocabulary at `vocabulary`, a folder or .model file."""
    feature = seqio.Feature(seqio_vocabulary(vocabulary), add_eos=True, dtype=tf.int32)
    return {"inputs": feature, "targets": feature}


def tokenize_sentences(
    dataset: tf.data.Dataset, output_features, *, close_sentences: bool = False
) -> tf.data.Dataset:
    """`text` (scalar string) → `targets` [n] and `sentence_ids` [n], 1-based; blank documents are dropped.

    The ids are those of the sentences with a space between them. With `close_sentences` each sentence ends
    in </s>.
    """
    vocabulary = output_features["targets"].vocabulary

    def tokenize(example):
        sentences = split_sentences(example["text"])
        if isinstance(vocabulary, SeqioTokenizers):
            # SentencePiece puts a space before each sentence by itself.
            spaces = tf.fill(tf.shape(sentences), " ")
            sentences = tf.strings.join([tf.concat([[""], spaces], 0)[:-1], sentences])
        tokens = vocabulary.encode_tf(sentences)
        if close_sentences:
            tokens = tf.concat([tokens, tf.fill([tokens.nrows(), 1], EOS_ID)], 1)
        return {
            "targets": tf.cast(tokens.flat_values, tf.int32),
            "sentence_ids": tf.cast(tokens.value_rowids(), tf.int32) + 1,
        }

    dataset = dataset.map(tokenize, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.filter(lambda example: tf.size(example["targets"]) > 0)


def cut_documents(dataset: tf.data.Dataset, sequence_length=None, output_features=None) -> tf.data.Dataset:
    """Cuts documents at sentence ends into pieces of at most `sequence_length["targets"]` - 1 tokens.

    One token is left for </s>, and one for the <s> of vocabularies that open texts. A sentence that is longer
    than a piece is cut where the piece is full; nothing is lost. Sentences are numbered from 1 in each piece.
    Without `sequence_length` nothing is cut.
    """
    if sequence_length is None:
        return dataset
    opening = opening_of(output_features["targets"].vocabulary) if output_features else ()
    limit = sequence_length["targets"] - 1 - len(opening)

    def cut(example):
        piece = _piece_of_token(example["sentence_ids"], limit)
        first_sentence = tf.gather(example["sentence_ids"], tf.searchsorted(piece, piece))
        columns = {**example, "sentence_ids": example["sentence_ids"] - first_sentence + 1}
        return {k: tf.RaggedTensor.from_value_rowids(v, piece, validate=False) for k, v in columns.items()}

    return dataset.map(cut, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def _piece_of_token(sentence_ids: tf.Tensor, limit: int) -> tf.Tensor:
    """0-based piece of each token [n], for sentences taken greedily while they fit into `limit` tokens."""
    offset = tf.range(tf.size(sentence_ids)) - tf.searchsorted(sentence_ids, sentence_ids)
    # A unit is a sentence, or `limit` tokens of a longer one.
    unit = tf.cumsum(tf.cast(offset % limit == 0, tf.int32)) - 1
    lengths = tf.math.bincount(unit)
    return tf.gather(greedy_groups([lengths], [limit]), unit)


def corrupt(
    task: str,
    corruption: str | Callable[[Symbols], record.Corruption],
    *,
    symbols: Symbols | None = None,
    language: str | None = None,
    max_tokens: int | None = None,
):
    """Preprocessor that puts noise on `targets`, and closes both sides with </s> or a language token.

    Where the vocabulary opens texts (<s> in published BART), both sides begin with that too; no noise
    touches it, and it is the first token of the clean text that sources count.

    Sentences are those of the feature `sentence_ids`; without it a text is one sentence. Empty texts are
    dropped. The key of an example's noise is SeqIO's seed for its window's place in the stream, with the
    task, the data shard, its place in the window and its content folded in: SeqIO alone gives every shard
    and every task the same seeds.

    Inputs longer than `sequence_length["inputs"]` are cut before </s>, and targets that only the cut part
    showed count as deleted; what the decoder writes is cut likewise, for itself. So give inputs the length
    of the text where the decoder writes what sentinels hide.

    Args:
      task, corruption, language: see `denoising`.
      symbols: what the noise must know of the vocabulary; needed for vocabularies other than SentencePiece
        models and tokenizers. Default: read from the vocabulary of the output features.
      max_tokens: the longest text, for noise whose sentinels could run out. Default: what `cut_documents`
        leaves of texts with `sentence_ids`; of others, as much as both sides can hold together.

    Raises DataError, naming the task, for noise that cannot be built for the vocabulary or the lengths.
    """

    def preprocess(dataset, output_features, sequence_length=None):
        how = _reading.get()
        vocabulary = output_features["targets"].vocabulary
        frame = frame_of(task, vocabulary, language)
        limits = {side: length - frame.size for side, length in (sequence_length or {}).items()}
        known = symbols or _symbols_of(task, vocabulary, closed_sentences=language is not None)
        known_sentences = "sentence_ids" in dataset.element_spec
        longest = limits.get("targets") if known_sentences else sum(limits.values())
        apply = _build(task, corruption, known, max_tokens or longest)
        share = 1.0 if how.per_step is None else _share(task, how.shares)

        @_as_it_is
        def steps(seen, window):
            sizes = tf.cast(_ragged(window["targets"]).row_lengths(), tf.int64)
            taken = sizes + frame.size if how.packed else tf.ones_like(sizes)
            before = seen + tf.cumsum(taken, exclusive=True)
            number = tf.cast(tf.cast(before, tf.float64) / (how.per_step * share), tf.int64)
            return seen + tf.reduce_sum(taken), {**window, "steps": number}

        @seqio.map_over_dataset(num_seeds=1)
        @_as_it_is
        def apply_noise(window, seed):
            window = _without_empty({name: _ragged(column) for name, column in window.items()})
            clean = record.clean(window["targets"], window.get("sentence_ids"), window.get("steps"))
            place = tf.range(tf.cast(clean.partition.nrows, tf.int64))
            key = keys.stream(seed[0] + seed[1] * 2**32 + place, f"{task}/{how.shard}")
            noised = apply(clean, key + keys.content_keys(clean.targets, clean.partition))
            features = framed(noised, limits, frame)
            if not how.provenance:
                features = {name: features[name] for name in ("inputs", "targets", "targets_kind")}
            if language is not None:
                features["decoder_start"] = tf.fill([clean.partition.nrows, 1], frame.closing)
            if how.with_text:
                features |= framed_text(noised, frame)
            return features

        wanted = [name for name in ("targets", "sentence_ids") if name in dataset.element_spec]
        if set(wanted) != set(dataset.element_spec):
            dataset = dataset.map(lambda example: {name: example[name] for name in wanted})
        windows = dataset.ragged_batch(WINDOW)
        if how.per_step is not None:
            windows = windows.scan(tf.constant(0, tf.int64), steps)
        return apply_noise(windows).unbatch()

    return preprocess


def noise_symbols(vocabulary: Vocabulary, *, closed_sentences: bool = False) -> Symbols:
    """What the noise must know of a vocabulary: its symbols, and where words begin.

    With `closed_sentences`, </s> ends sentences and travels with them.
    """
    return Symbols(
        mask_token=vocabulary.known_mask(),
        vocab_size=len(vocabulary),
        protected=vocabulary.control_ids,
        separator=EOS_ID if closed_sentences else None,
        rotation_token=vocabulary.symbol_id(ROTATION),
        sentinels=vocabulary.sentinel_ids,
        modes=vocabulary.mode_ids,
        word_starts=vocabulary.word_starts,
    )


def _build(task: str, corruption, symbols: Symbols, max_tokens: int | None) -> record.Corruption:
    try:
        if callable(corruption):
            return corruption(symbols)
        lengths = {"max_tokens": max(max_tokens, 2)} if max_tokens else {}
        return presets.build(corruption, symbols, **lengths)
    except CorruptionError as error:
        raise DataError(f"task {task!r}: {error}") from None


def _symbols_of(task: str, vocabulary: seqio.Vocabulary, *, closed_sentences: bool) -> Symbols:
    if not is_ours(vocabulary):
        raise DataError(
            f"task {task!r}: nothing tells the mask of a {type(vocabulary).__name__}; "
            "give preprocessors.corrupt the argument symbols"
        )
    return noise_symbols(of_seqio(vocabulary), closed_sentences=closed_sentences)


def _share(task: str, shares: Mapping[str, float]) -> float:
    """The task's share of a training step; all of it where nothing is mixed."""
    if shares and task not in shares:
        raise DataError(
            f"task {task!r}: the mixture has {', '.join(shares)}; give the preprocessor the name under which "
            "its task is registered"
        )
    return shares[task] if shares else 1.0


def _ragged(column: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor | tf.Tensor:
    """A column of a window as ragged, where its examples all have the same known length too."""
    dense = isinstance(column, tf.Tensor) and column.shape.rank == 2
    return tf.RaggedTensor.from_tensor(column) if dense else column


def _without_empty(window: dict[str, tf.RaggedTensor | tf.Tensor]) -> dict[str, tf.RaggedTensor | tf.Tensor]:
    """The window without the examples that have no token; the tokens of the others stay where they are."""
    lengths = window["targets"].row_lengths()
    full = lengths > 0
    kept = tf.boolean_mask(lengths, full)

    def part(column: tf.RaggedTensor | tf.Tensor) -> tf.RaggedTensor | tf.Tensor:
        if isinstance(column, tf.RaggedTensor):
            return tf.RaggedTensor.from_row_lengths(column.flat_values, kept, validate=False)
        return tf.boolean_mask(column, full)

    return {name: part(column) for name, column in window.items()}

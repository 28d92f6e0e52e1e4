"""SeqIO preprocessors: text → sentences → tokens → pieces → noise.

`denoising(...)` is the whole list for a task. Each part also works alone in any `seqio.Task`.
Features of an example, all int32 [n]: `targets` (clean), `inputs` (corrupted), and where each token came
from: `inputs_source`, `inputs_span`, `inputs_op`, `targets_noise` (see `corruption/record.py`).
"""

import contextlib
import contextvars

import seqio
import tensorflow as tf

from denoise_jax.corruption import keys, presets, record
from denoise_jax.data.grouping import greedy_groups
from denoise_jax.data.sentences import split_sentences
from denoise_jax.data.vocabulary import EOS_ID, Vocabulary, seqio_vocabulary
from denoise_jax.errors import DataError

_noise_shard: contextvars.ContextVar[int] = contextvars.ContextVar("noise_shard", default=0)

PROVENANCE = ("inputs_source", "inputs_span", "inputs_op", "targets_noise")


def denoising(task: str, corruption: str) -> list:
    """All preprocessors of a denoising task over a source of `text` examples.

    Args:
      task: name of the task; it keys the noise, so that no two tasks share a stream.
      corruption: name of a preset in `corruption/presets.py`.
    """
    return [tokenize_sentences, seqio.CacheDatasetPlaceholder(), cut_documents, corrupt(task, corruption)]


def output_features(vocabulary: str) -> dict[str, seqio.Feature]:
    """Features of a denoising task with the vocabulary at `vocabulary`, a folder or .model file."""
    feature = seqio.Feature(seqio_vocabulary(vocabulary), add_eos=True, dtype=tf.int32)
    return {"inputs": feature, "targets": feature}


def tokenize_sentences(dataset: tf.data.Dataset, output_features) -> tf.data.Dataset:
    """`text` (scalar string) → `targets` [n] and `sentence_ids` [n], 1-based; blank documents are dropped."""
    vocabulary = output_features["targets"].vocabulary

    def tokenize(example):
        tokens = vocabulary.encode_tf(split_sentences(example["text"]))
        return {
            "targets": tf.cast(tokens.flat_values, tf.int32),
            "sentence_ids": tf.cast(tokens.value_rowids(), tf.int32) + 1,
        }

    dataset = dataset.map(tokenize, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.filter(lambda example: tf.size(example["targets"]) > 0)


def cut_documents(dataset: tf.data.Dataset, sequence_length=None) -> tf.data.Dataset:
    """Cuts documents at sentence ends into pieces of at most `sequence_length["targets"]` - 1 tokens.

    One token is left for </s>. A sentence that is longer than a piece is cut where the piece is full;
    nothing is lost. Sentences are numbered from 1 in each piece. Without `sequence_length` nothing is cut.
    """
    if sequence_length is None:
        return dataset
    limit = sequence_length["targets"] - 1

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


def corrupt(task: str, corruption: str):
    """Preprocessor that puts the noise of preset `corruption` on `targets`, and closes both sides with </s>.

    The key of an example's noise is SeqIO's seed for its place in the stream, with the task, the data shard
    and the example's content folded in: SeqIO alone gives every shard and every task the same seeds.
    Inputs longer than `sequence_length["inputs"]` are cut before </s>, and targets that only the cut part
    showed count as deleted; targets are never cut here.
    """

    def preprocess(dataset, output_features, sequence_length=None):
        stream = f"{task}/{_noise_shard.get()}"
        apply = _build(task, corruption, noise_symbols(output_features["targets"].vocabulary))
        input_limit = None if sequence_length is None else sequence_length["inputs"] - 1

        @seqio.map_over_dataset(num_seeds=1)
        def apply_noise(example, seed):
            targets = example["targets"]
            key = keys.stream(tf.stack(seed), stream) + _content_hash(targets)
            noised = apply(record.clean(targets, example["sentence_ids"]), key)
            return _close(noised, input_limit)

        return apply_noise(dataset)

    return preprocess


@contextlib.contextmanager
def noise_shard(shard: int):
    """Datasets built here draw the noise of data shard `shard`; SeqIO tells preprocessors of none."""
    token = _noise_shard.set(shard)
    try:
        yield
    finally:
        _noise_shard.reset(token)


def _build(task: str, corruption: str, symbols: record.Symbols) -> record.Corruption:
    try:
        return presets.build(corruption, symbols)
    except record.CorruptionError as error:
        raise DataError(f"task {task!r}: {error}") from None


def noise_symbols(vocabulary: seqio.SentencePieceVocabulary) -> record.Symbols:
    """What the noise must know of a vocabulary: the mask, the size, and the ids that it may not touch."""
    own = Vocabulary(vocabulary.sentencepiece_model_file)
    return record.Symbols(mask_token=own.mask_id, vocab_size=len(own), protected=own.control_ids)


def _content_hash(tokens: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(tf.fingerprint(tokens[tf.newaxis])[0], tf.int64)


def _close(noised: record.Noised, input_limit: int | None) -> dict[str, tf.Tensor]:
    """Features of one example: both sides end in </s>, which stands for itself."""
    end = tf.size(noised.targets) + 1
    target_noise = noised.target_noise
    if input_limit is not None:
        lost = tf.boolean_mask(noised.source[input_limit:], noised.op[input_limit:] == record.Op.KEEP)
        deleted = tf.fill(tf.shape(lost), int(record.TargetNoise.DELETED))
        target_noise = tf.tensor_scatter_nd_update(target_noise, lost[:, tf.newaxis] - 1, deleted)

    def inputs(column, last):
        return tf.concat([column[:input_limit], [last]], 0)

    return {
        "inputs": inputs(noised.ids, EOS_ID),
        "targets": tf.concat([noised.targets, [EOS_ID]], 0),
        "inputs_source": inputs(noised.source, end),
        "inputs_span": inputs(noised.span, 2),
        "inputs_op": inputs(noised.op, int(record.Op.KEEP)),
        "targets_noise": tf.concat([target_noise, [int(record.TargetNoise.VISIBLE)]], 0),
    }

"""Edge cases of text infilling: protected tokens, very short texts, rates 0 and 1, invalid options."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption.infilling import PLACEMENTS, text_infilling
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.record import Op, TargetNoise, clean
from denoise_jax.corruption.symbols import Symbols
from tests.corruption.helpers import (
    SYMBOLS,
    audit,
    batch_of,
    draw_many,
    examples_of,
    keys_of,
    random_texts,
    text_of,
)


def share_of_step(steps):
    """A schedule that lets a test set the share of each text, in thousandths."""
    return tf.cast(tf.minimum(steps, 1000), tf.float64) / 1000


POISSON = {"mask_prob": share_of_step, "span_length": "poisson", "mean_span_length": 1.0}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_protected_tokens_stay_and_the_share_is_exact(placement):
    texts = random_texts((1, 2, 3, 4), range(10, 40), longest=30)
    thousandths = np.resize([0, 70, 300, 999, 1000], len(texts)).tolist()
    corrupt = text_infilling(SYMBOLS, placement=placement, **POISSON)
    noised = corrupt(batch_of(texts, steps=tf.constant(thousandths, tf.int64)), keys_of(len(texts)))
    for ids, share, example in zip(texts, thousandths, examples_of(noised), strict=True):
        targets = np.array(ids, np.int32)
        hidden = example.target_noise == TargetNoise.COVERED
        protected = targets < 10
        assert not hidden[protected].any()
        rounding = math.ceil(Fraction(share, 1000) * int((~protected).sum()))
        assert hidden.sum() == rounding or (placement == "overlap" and hidden.sum() <= rounding)
        np.testing.assert_array_equal(example.ids[example.op == Op.KEEP], targets[~hidden])
        audit(example)


@pytest.mark.parametrize(
    ("placement", "replace_length"), [("roll", 1), ("uniform", 1), ("overlap", 1), ("roll", 0), ("roll", -1)]
)
def test_whole_words_are_hidden(placement, replace_length):
    """Exactly the share of them (one fewer if none would be left), and no mask spans two texts or a protected
    token. Every third id does not begin a word, except as the first token of a text or after a protected
    token."""
    texts = random_texts((1, 3), range(10, 22), longest=24)
    thousandths = np.resize([0, 70, 300, 500, 1000], len(texts)).tolist()
    corrupt = text_infilling(
        SYMBOLS, placement=placement, whole_word=True, replace_length=replace_length, **POISSON
    )
    batch = batch_of(texts, steps=tf.constant(thousandths, tf.int64))
    noised = examples_of(corrupt(batch, keys_of(len(texts))))
    for ids, share, example in zip(texts, thousandths, noised, strict=True):
        audit(example)
        ids = np.array(ids, np.int32)
        text = ids >= 10
        behind_text = np.concatenate([[False], text])[: len(ids)]
        begins = text & (SYMBOLS.word_starts[ids] | ~behind_text)
        word, words = np.where(text, np.cumsum(begins), 0), int(begins.sum())
        gone = example.target_noise != TargetNoise.VISIBLE
        chosen = set(word[gone].tolist())
        np.testing.assert_array_equal(gone, np.isin(word, sorted(chosen)))
        assert 0 not in chosen
        rounding = math.ceil(Fraction(share, 1000) * words)
        rounding = min(rounding, max(words - 1, 0)) if replace_length == 0 else rounding
        assert len(chosen) == rounding or (placement == "overlap" and len(chosen) <= rounding)
        np.testing.assert_array_equal(example.ids[example.op == Op.KEEP], ids[~gone])
        masks = example.op == Op.MASK
        assert masks.sum() == {0: 0, -1: gone.sum()}.get(replace_length, masks.sum())
        for source, span in zip(example.source[masks], example.span[masks], strict=True):
            assert gone[source - 1 : source + span - 2].all()
            assert begins[source - 1] or replace_length == -1


@pytest.mark.parametrize(
    ("name", "placement"), [*(("poisson", placement) for placement in PLACEMENTS), ("geometric", "roll")]
)
def test_very_short_texts_and_extreme_rates(name, placement):
    """Five times each in one batch; texts without tokens are unchanged, and others keep a token or mask."""
    texts = [text for text in ([], [1, 2], [1], [4], [10], [10, 11], [10, 11, 12]) for _ in range(5)]

    def infill(**options):
        corrupt = text_infilling(SYMBOLS, span_length=name, placement=placement, **options)
        batch = clean(tf.ragged.constant(texts, tf.int32, ragged_rank=1))
        examples = examples_of(corrupt(batch, tf.range(len(texts), dtype=tf.int64)))
        for example in examples:
            audit(example)
        return [example.ids.tolist() for example in examples]

    for rate in (0.0, 0.3, 1.0):
        for replace_length in (1, 0, -1):
            ids = infill(mask_prob=rate, replace_length=replace_length)
            assert ids[:20] == texts[:20]
            assert min(map(len, ids[20:])) >= 1
    assert infill(mask_prob=0.0) == texts  # the identity
    assert infill(mask_prob=0.3, rounding="floor") == texts
    assert infill(mask_prob=1.0, replace_length=0, zero_length_spans=False)[20:25] == [[10]] * 5
    if placement != "overlap":
        assert {token for example in infill(mask_prob=1.0)[20:] for token in example} == {4}


def test_protected_tokens_split_spans():
    options = {"mask_prob": 1.0, "span_length": "constant", "mean_span_length": 2, "placement": "uniform"}
    corrupt = text_infilling(SYMBOLS, **options)
    for example in draw_many(corrupt, clean(tf.constant([10, 3, 11, 900, 5, 2])), 5):
        assert example.ids.tolist() == [4, 3, 4, 900, 5, 2]
        assert example.span.tolist() == [2] * 6


def test_masks_do_not_cross_examples():
    """Neither in a span at the end of a text nor in one across the opening of its ring."""
    corrupt = text_infilling(SYMBOLS, mask_prob=1.0, span_length="constant", mean_span_length=5)
    texts = tf.ragged.constant([[10, 11], [], [12, 13, 14], [15]], tf.int32)
    for seed in range(10):
        examples = examples_of(corrupt(clean(texts), tf.range(4, dtype=tf.int64) + seed))
        assert [(example.span - 1).sum() for example in examples] == [2, 0, 3, 1]


def test_constant_lengths_and_maximum_lengths():
    for example in draw_many(
        text_infilling(SYMBOLS, span_length="poisson", max_span_length=2), text_of(50), 30
    ):
        assert example.span.max() <= 3
    whole = text_infilling(SYMBOLS, mask_prob=1.0, span_length="constant", mean_span_length=10)
    assert max(example.span.max() for example in draw_many(whole, text_of(50), 10)) == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_prob": 1.5}, r"mask_prob=1\.5"),
        ({"mask_prob": -0.1}, r"mask_prob=-0\.1"),
        ({"mask_prob": math.nan}, "mask_prob=nan"),
        ({"mask_prob": lambda steps: tf.cast(steps, tf.float32)}, "mask_prob=2 must lie"),
        ({"mask_random": 2.0}, "mask_random=2"),
        ({"span_length": "gaussian"}, "span_length='gaussian'.*geometric"),
        ({"mean_span_length": 0.5}, r"mean_span_length=0\.5 must lie in 1"),
        ({"span_length": "empirical"}, "span_length_weights=None"),
        ({"max_span_length": 0}, "max_span_length=0"),
        ({"replace_length": 2}, "replace_length=2 must be 1, 0 or -1"),
        ({"replace_length": True}, "replace_length=True must be 1, 0 or -1"),
        ({"replace_length": 0.5}, "replace_length=0.5 must be 1, 0 or -1"),
        ({"placement": "ring"}, "placement='ring'.*roll, uniform, overlap"),
        ({"rounding": "up"}, "rounding='up'.*ceil"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(CorruptionError, match=message):
        text_infilling(SYMBOLS, **options)


def test_words_require_word_starts():
    with pytest.raises(CorruptionError, match="word_starts"):
        text_infilling(Symbols(mask_token=4, vocab_size=1000), whole_word=True)

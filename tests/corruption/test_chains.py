"""What holds for any chain: replay, determinism, independent streams, names."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_jax.corruption import keys, presets
from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.record import Noised, Op, TargetNoise, clean
from denoise_jax.corruption.symbols import CorruptionError, Symbols
from denoise_jax.corruption.sentences import sentence_permutation

SYMBOLS = Symbols(mask_token=4, vocab_size=1000, protected=(0, 1, 2, 3))
POISSON = {"span_length": "poisson", "mean_span_length": 1.5}
CHAINS = {
    "bart": [sentence_permutation(SYMBOLS), text_infilling(SYMBOLS, **POISSON)],
    "infill then permute": [text_infilling(SYMBOLS, **POISSON), sentence_permutation(SYMBOLS)],
    "infill twice": [text_infilling(SYMBOLS, **POISSON), text_infilling(SYMBOLS, **POISSON)],
    "permute, infill, permute half, infill": [
        sentence_permutation(SYMBOLS),
        text_infilling(SYMBOLS, **POISSON),
        sentence_permutation(SYMBOLS, permute_sentences=0.5),
        text_infilling(SYMBOLS, mask_prob=0.5, **POISSON),
    ],
}
TRACED = {name: tf.function(chain(members), reduce_retracing=True) for name, members in CHAINS.items()}


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(CHAINS)),
    lengths=st.lists(st.integers(1, 9), max_size=6),
    ends=st.booleans(),
    seed=st.integers(-(2**62), 2**62),
)
def test_provenance_composes_through_any_chain(audit, name, lengths, ends, seed):
    ids = np.arange(10, 10 + sum(lengths))
    sentences = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    if ends:  # a start and an end of text
        ids, sentences = [1, *ids, 2], [1, *sentences, max(1, len(lengths))]
    noised = TRACED[name](
        clean(tf.constant(ids, tf.int32), tf.constant(sentences, tf.int32)), tf.constant([seed, 3], tf.int64)
    )
    audit(noised)
    assert not (noised.target_noise.numpy() == TargetNoise.DELETED).any()
    if ends:
        assert (noised.ids[0], noised.ids[-1]) == (1, 2)


def test_masks_after_a_permutation_hide_its_neighbours(symbols, text, draw_many):
    """Behind a mask are the tokens that stood side by side when it was put on, first of them its source."""
    permute, infill = sentence_permutation(symbols), text_infilling(symbols, span_length="poisson")
    noised = text(5, 8, 3, 9, 6)
    both = draw_many(chain([permute, infill]), noised, 40)
    permuted = draw_many(chain([permute]), noised, 40)
    for row, before in zip(both, permuted, strict=True):
        rebuilt = []
        for source, span, op in zip(row.source, row.span, row.op, strict=True):
            if op != Op.INSERT:
                at = before.source.tolist().index(source)
                rebuilt.extend(before.source[at : at + span - 1])
        np.testing.assert_array_equal(rebuilt, before.source)


def test_a_second_infilling_leaves_the_masks_of_the_first(symbols, text, draw_many):
    first = text_infilling(symbols, mask_prob=0.5, span_length="poisson")
    for row, before in zip(
        draw_many(chain([first, first]), text(40), 40), draw_many(chain([first]), text(40), 40), strict=True
    ):
        assert np.sum(row.target_noise == TargetNoise.HIDDEN) == 20 + 10  # half, then half of the rest
        counts = [np.isin(noised.op, (Op.MASK, Op.INSERT)).sum() for noised in (row, before)]
        assert counts[0] > counts[1]


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_eager_graph_and_any_parallelism_agree(symbols, text, name):
    corrupt = presets.build(name, symbols)
    noised = text(5, 7, 12, 3)

    def both(i):
        return tuple(corrupt(noised, tf.stack([i, 9])))

    eager = [both(tf.constant(i, tf.int64)) for i in range(12)]
    graph = tf.function(both)
    np.testing.assert_equal(
        [c.numpy() for row in eager for c in graph(tf.constant(0, tf.int64))][:7],
        [c.numpy() for c in eager[0]],
    )
    for parallel in (None, 1, 4, tf.data.AUTOTUNE):
        mapped = tf.data.Dataset.range(12).map(both, num_parallel_calls=parallel)
        for row, expected in zip(mapped.as_numpy_iterator(), eager, strict=True):
            for column, value in zip(row, expected, strict=True):
                np.testing.assert_array_equal(column, value)


def test_int32_and_int64_keys_agree_and_keys_matter(symbols, text):
    corrupt = presets.build("bart_paper", symbols)
    noised = text(20, 20, 20)
    rows = [
        corrupt(noised, tf.constant(key, dtype)) for key, dtype in (([1, 2], tf.int32), ([1, 2], tf.int64))
    ]
    np.testing.assert_array_equal(rows[0].ids, rows[1].ids)
    for other in ([2, 1], [1, 3], [2, 2]):
        assert corrupt(noised, tf.constant(other)).ids.numpy().tolist() != rows[0].ids.numpy().tolist()


@pytest.mark.parametrize(
    "options", [{"mask_prob": 0.1}, {"span_length": "geometric"}, {"zero_length_spans": False}]
)
def test_an_option_of_one_member_leaves_the_other_alone(symbols, text, draw_many, options):
    """The order of sentences, read off the tokens left visible, is that of the permutation alone."""
    noised = text(*[4] * 8)
    infill = text_infilling(symbols, **({"span_length": "poisson"} | options))
    alone = draw_many(chain([sentence_permutation(symbols)]), noised, 30)
    for row, before in zip(
        draw_many(chain([sentence_permutation(symbols), infill]), noised, 30), alone, strict=True
    ):
        visible = row.source[row.op == Op.KEEP]
        np.testing.assert_array_equal(visible, before.source[np.isin(before.source, visible)])


def test_an_option_of_infilling_leaves_its_other_draws_alone(symbols, text, draw_many):
    """Whether empty spans insert masks changes nothing else; a larger rate begins with the same lengths."""
    with_zeros = draw_many(text_infilling(symbols, span_length="poisson"), text(80), 30)
    without = draw_many(text_infilling(symbols, span_length="poisson", zero_length_spans=False), text(80), 30)
    for row, plain in zip(with_zeros, without, strict=True):
        kept = row.op != Op.INSERT
        for column, expected in zip(row[:4], plain[:4], strict=True):
            np.testing.assert_array_equal(column[kept], expected)


def test_streams_are_told_apart_and_stay_the_same():
    key = tf.constant([5, 6])
    names = [keys.stream(key, name).numpy().tolist() for name in ("a", "b")]
    assert names[0] != names[1]
    nested = keys.stream(keys.stream(key, "a"), "b"), keys.stream(keys.stream(key, "b"), "a")
    assert nested[0].numpy().tolist() != nested[1].numpy().tolist()
    # Written down once: a change here would change the noise of every run, without a word.
    first = [984632230, -1331266652, -192610560]
    assert keys.draw(key, "a", [3]).numpy().tolist() == first
    assert keys.draw(key, "a", [9]).numpy().tolist()[:3] == first
    public = {"minval": None, "maxval": None, "dtype": tf.int32, "alg": "philox"}
    assert tf.random.stateless_uniform([3], keys.stream(key, "a"), **public).numpy().tolist() == first


def test_streams_are_uncorrelated():
    """Correlation of streams, and of neighbouring keys, below 4.5 / sqrt(draws): 1 false alarm in 70,000."""
    size = 20_000
    one, other, next_key = (
        keys.draw(tf.constant(key), name, [size]).numpy().astype(float)
        for key, name in (([0, 0], "a"), ([0, 0], "b"), ([0, 1], "a"))
    )
    for second in (other, next_key):
        assert abs(np.corrcoef(one, second)[0, 1]) < 4.5 / np.sqrt(size)


def test_the_empty_chain_is_the_identity(symbols, text):
    noised = text(3, 4)
    for corrupt in (chain([]), presets.build("none", symbols)):
        assert corrupt(noised, tf.constant([0, 0])) is noised


def test_presets_are_documented_and_named(symbols):
    for preset in presets.PRESETS.values():
        assert len(preset.documentation) > 60
    with pytest.raises(CorruptionError, match=r"'bart_papr'.*bart_paper"):
        presets.build("bart_papr", symbols)
    with pytest.raises(CorruptionError, match=r"'xyz'.*bart_paper, none"):
        presets.build("xyz", symbols)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask_token": 1000}, "mask_token=1000"),
        ({"mask_token": 0}, "mask_token=0"),
        ({"mask_token": -1}, "mask_token=-1"),
        ({"protected": (0, 1000)}, "protected=1000"),
        ({"vocab_size": 1}, "vocab_size=1"),
    ],
)
def test_symbols_outside_the_vocabulary_are_refused(fields, message):
    with pytest.raises(CorruptionError, match=message):
        Symbols(**({"mask_token": 4, "vocab_size": 1000} | fields))


def test_the_mask_is_always_protected():
    symbols = Symbols(mask_token=4, vocab_size=10, protected=(0, 2))
    assert symbols.protected == (0, 2, 4)
    assert symbols.eligible(tf.constant([0, 1, 2, 3, 4])).numpy().tolist() == [0, 1, 0, 1, 0]


def test_records_are_rows_of_int32(audit):
    audit(Noised(*clean(tf.constant([10, 11], tf.int64), tf.constant([1, 2], tf.int64))))

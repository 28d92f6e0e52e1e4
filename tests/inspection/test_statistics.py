"""Statistics of noise against hand counts, kinds of evaluation, and truncation in training."""

import json

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax.corruption import PRESETS, Symbols, clean, presets, split
from denoise_jax.corruption.provenance import target_kinds
from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.inspection.statistics import NoiseStatistics, is_closed, moved
from denoise_jax.target_kinds import HIDDEN, TargetKind
from tests.data.helpers import read_task, text_task

K, M, I, R, S = Op.KEEP, Op.MASK, Op.INSERT, Op.RANDOM, Op.SENTINEL
V, C, D = TargetNoise.VISIBLE, TargetNoise.COVERED, TargetNoise.DELETED


def _example(columns, text_noise, targets):
    op, source, span = np.array(columns, np.int32).T
    return {
        "inputs_op": op,
        "inputs_source": source,
        "inputs_span": span,
        "text_noise": np.array(text_noise, np.int32),
        "targets": np.arange(targets),
    }


# a b c d e f g h → e f <mask> x g <mask> b <mask> </s>: d deleted, a replaced by x, c and h masked,
# e and b after other tokens than in the text.
MIXED = _example(
    [(K, 5, 2), (K, 6, 2), (M, 8, 2), (R, 1, 2), (K, 7, 2), (I, 3, 1), (K, 2, 2), (M, 3, 2), (K, 9, 2)],
    [C, V, C, D, V, V, V, C],
    9,
)
# a b c d e f → <mask> e <sentinel> f </s>, whose sentinel covers nothing.
SPAN = _example([(M, 1, 5), (K, 5, 2), (S, 6, 1), (K, 6, 2), (K, 7, 2)], [C, C, C, C, V, V], 7)


def test_hand_counted_examples():
    statistics = NoiseStatistics(input_length=6)
    statistics.add(MIXED)
    statistics.add(SPAN)
    summary = statistics.summary()
    assert summary == {
        "examples": 2,
        "text_tokens": 14,
        "hidden": 8 / 14,
        "masked": 6 / 14,
        "replaced": 1 / 14,
        "deleted": 1 / 14,
        "inserted": 1 / 14,
        "moved": 2 / 14,
        "mean_span": 7 / 4,
        "spans": {"1": 3, "4": 1},
        "mean_input_length": (6 + 5) / 2,
        "mean_target_length": (9 + 7) / 2,
        "length_ratio": 11 / 16,
        "truncated": 1 / 2,
        "lost": 3 / 14,
    }
    assert json.loads(json.dumps(summary)) == summary


def test_empty_statistics_and_empty_examples():
    statistics = NoiseStatistics()
    assert statistics.summary()["hidden"] == 0
    statistics.add(_example(np.zeros((0, 3)), [], 0))
    summary = statistics.summary()
    assert summary["examples"] == 1
    assert summary["spans"] == {}
    assert summary["length_ratio"] == 0


@pytest.mark.parametrize(
    ("sources", "flags"),
    [
        ([], []),
        ([1, 2, 4, 9], [0, 0, 0, 0]),
        ([4, 5, 6, 1, 2], [1, 0, 0, 1, 0]),
        ([3, 2, 1], [1, 1, 1]),
        ([2, 1, 4, 3], [1, 1, 1, 1]),
        ([5, 1, 2, 3, 9], [1, 1, 0, 0, 1]),  # 9 followed 5
    ],
)
def test_moved(sources, flags):
    assert moved([K] * len(sources), sources).tolist() == [bool(flag) for flag in flags]
    apart = [(op, source) for source in sources for op in (M, K)]  # masks between them are ignored
    ops, sources = zip(*apart, strict=True) if apart else ((), ())
    assert moved(ops, sources)[1::2].tolist() == [bool(flag) for flag in flags]


KIND_OF = {
    "masked": TargetKind.MASKED,
    "replaced": TargetKind.REPLACED,
    "deleted": TargetKind.DELETED,
    "moved": TargetKind.MOVED,
}


@pytest.mark.parametrize("corruption", PRESETS)
def test_counts_are_those_of_the_kinds_of_target_tokens(corruption):
    """As packing, losses and evaluation count them."""
    symbols = Symbols(
        mask_token=4,
        vocab_size=1000,
        protected=(0, 1, 2, 3),
        rotation_token=5,
        sentinels=tuple(range(900, 1000)),
        modes={"[R]": 800, "[S]": 801, "[X]": 802},
        word_starts=np.arange(1000) % 3 != 0,
    )
    lengths = [0, 1, 2, *range(20, 40)]
    texts = tf.ragged.range([10] * len(lengths), [10 + length for length in lengths])
    sentences = tf.ragged.map_flat_values(lambda ids: ids // 6, texts)
    noised = presets.build(corruption, symbols)(clean(texts, sentences), tf.range(23, dtype=tf.int64))
    kinds = tf.RaggedTensor.from_row_lengths(target_kinds(noised), noised.target_partition.row_lengths)
    columns = split(noised)
    names = ("op", "source", "span", "target_noise")
    for *values, kind in zip(*(columns[name].numpy() for name in names), kinds.numpy(), strict=True):
        op, source, span, noise = values
        places = np.flatnonzero(kind == TargetKind.MOVED) + 1
        np.testing.assert_array_equal(np.sort(source[moved(op, source)]), places)
        statistics = NoiseStatistics()
        features = {"inputs_op": op, "inputs_source": source, "inputs_span": span, "text_noise": noise}
        statistics.add({**features, "targets": kind})
        summary = statistics.summary()
        assert round(summary["hidden"] * len(kind)) == np.isin(kind, HIDDEN).sum()
        for name, of_kind in KIND_OF.items():
            # bart_fairseq covers moved text, for which these kinds are approximate (`target_kinds`).
            if corruption != "bart_fairseq" or name in ("deleted", "moved"):
                assert round(summary[name] * len(kind)) == np.sum(kind == of_kind), name


def test_the_closing_token_is_recognised():
    assert is_closed([K, K], [1, 2], 1)
    assert not is_closed([K, I], [1, 2], 1)
    assert not is_closed([K, K], [2, 1], 2)
    assert not is_closed([], [], 0)


def test_truncation_is_counted_as_training_does_it(vocabulary_folder, speeches):
    task = text_task("measured", [speech[:6000] for speech in speeches], vocabulary_folder)

    def examples(input_length):
        return read_task(task, limit=64, input_limit=input_length, seed=3, with_text=True)

    uncut, cut = examples(1000), examples(46)
    statistics = NoiseStatistics(46)
    for example in uncut:
        statistics.add(example)
    summary = statistics.summary()
    lengths = [len(example["inputs"]) for example in cut]
    assert summary["examples"] == len(cut)
    assert summary["mean_input_length"] == np.mean(lengths)
    assert 0 < summary["truncated"] == np.mean([len(e["inputs"]) > 46 for e in uncut]) < 1
    assert summary["mean_target_length"] == np.mean([len(e["targets"]) for e in cut])
    # ceil(0.3 n) of each text, regardless of truncation
    wanted = sum(-(-3 * len(e["text"]) // 10) for e in cut) / sum(len(e["text"]) for e in cut)
    assert summary["hidden"] == pytest.approx(wanted)

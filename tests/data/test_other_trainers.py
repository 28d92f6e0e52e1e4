"""Tasks in another trainer, which reads them as T5X does: from SeqIO's registry with SeqIO's own converter.

The converter drops the provenance of tokens; everything else must be complete.
"""

import numpy as np
import pytest
import seqio

from denoise_jax.data import preprocessors
from denoise_jax.vocabulary.base import EOS_ID
from denoise_jax.vocabulary.load import load_vocabulary
from tests.data.helpers import text_task

LENGTHS = {"inputs": 160, "targets": 128}
PRESETS = ("bart_paper", "t5_span")
TOKENS = {
    "encoder_input_tokens": 160,
    "decoder_input_tokens": 128,
    "decoder_target_tokens": 128,
    "decoder_loss_weights": 128,
}
PACKED = {
    "encoder_segment_ids": 160,
    "encoder_positions": 160,
    "decoder_segment_ids": 128,
    "decoder_positions": 128,
}


@pytest.fixture(scope="module", autouse=True)
def registered(vocabulary_folder, speeches):
    """Tasks `elsewhere_bart_paper` and `elsewhere_t5_span`, and the mixture `elsewhere` of both."""
    texts = [speech[start : start + 100] for speech in speeches for start in range(0, 1000, 100)]
    names = [f"elsewhere_{preset}" for preset in PRESETS]
    for name, preset in zip(names, PRESETS, strict=True):
        seqio.TaskRegistry.add_provider(name, text_task(name, texts, vocabulary_folder, preset))
    seqio.MixtureRegistry.add("elsewhere", names, default_rate=1)
    yield
    seqio.MixtureRegistry.remove("elsewhere")
    for name in names:
        seqio.TaskRegistry.remove(name)


def examples_of(name):
    once = {"shuffle": False, "seed": 3, "num_epochs": 1}
    return list(seqio.get_mixture_or_task(name).get_dataset(LENGTHS, "train", **once).as_numpy_iterator())


def rows_of(name, pack):
    converter = seqio.EncDecFeatureConverter(pack=pack)
    dataset = seqio.get_dataset(name, LENGTHS, converter, "train", shuffle=False, seed=3)
    return list(dataset.as_numpy_iterator())


def segments_of(rows):
    """Encoder inputs, decoder inputs and decoder targets of each example, without padding."""
    for row in rows:
        numbers = {
            side: row.get(f"{side}_segment_ids", (row[tokens] > 0).astype(np.int32))
            for side, tokens in (("encoder", "encoder_input_tokens"), ("decoder", "decoder_target_tokens"))
        }
        assert numbers["encoder"].max() == numbers["decoder"].max()
        for number in range(1, numbers["encoder"].max() + 1):
            encoder, decoder = (numbers[side] == number for side in ("encoder", "decoder"))
            if "encoder_positions" in row:
                np.testing.assert_array_equal(row["encoder_positions"][encoder], range(encoder.sum()))
                np.testing.assert_array_equal(row["decoder_positions"][decoder], range(decoder.sum()))
            yield (
                row["encoder_input_tokens"][encoder],
                row["decoder_input_tokens"][decoder],
                row["decoder_target_tokens"][decoder],
            )


@pytest.mark.parametrize("preset", ["bart_paper", pytest.param("t5_span", marks=pytest.mark.slow)])
def test_seqios_own_converter_makes_complete_rows(preset):
    examples = examples_of(f"elsewhere_{preset}")
    assert {*preprocessors.PROVENANCE} < {*examples[0]}
    padded, packed = (rows_of(f"elsewhere_{preset}", pack) for pack in (False, True))
    assert len(packed) < 0.6 * len(padded)
    assert len(padded) == len(examples)
    for rows, features in ((padded, TOKENS), (packed, TOKENS | PACKED)):
        for row in rows:
            assert {name: len(values) for name, values in row.items()} == features
            assert {values.dtype for values in row.values()} == {np.dtype(np.int32)}
            np.testing.assert_array_equal(row["decoder_loss_weights"], row["decoder_target_tokens"] > 0)
        for example, (read, shifted, written) in zip(examples, segments_of(rows), strict=True):
            np.testing.assert_array_equal(read, example["inputs"])
            np.testing.assert_array_equal(written, example["targets"])
            assert written[-1] == read[-1] == EOS_ID
            np.testing.assert_array_equal(shifted, [0, *written[:-1]])


def test_a_mixture_reads_as_its_tasks_do(vocabulary_folder):
    sentinel = load_vocabulary(vocabulary_folder).sentinel_ids[0]
    rows = rows_of("elsewhere", False)
    assert {*rows[0]} == {*TOKENS}
    segments = list(segments_of(rows))
    assert all(read[-1] == written[-1] == EOS_ID for read, _, written in segments)
    of_spans = sum(written[0] == sentinel for _, _, written in segments)
    assert 0.3 < of_spans / len(segments) < 0.7

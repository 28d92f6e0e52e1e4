"""Random chains and mixtures, and BART's noise: identical results eagerly and in tf.data.

test_presets.py tests the same for the presets.
"""

import numpy as np
import pytest
import tensorflow as tf

from denoise_jax import corruption as noises
from denoise_jax.corruption.rates import Linear
from tests.corruption.helpers import SYMBOLS, audit, batch_of, examples_of

# Every kind of noise, with a schedule, with words and tokens, and with several distributions of spans.
PLAIN = {
    "masking": lambda s: noises.token_masking(s, selection="bernoulli", whole_word=True),
    "replacement": lambda s: noises.token_replacement(s, source="text"),
    "deletion": lambda s: noises.token_deletion(s, deletion_prob=Linear(0.0, 0.5, steps=100)),
    "insertion": lambda s: noises.token_insertion(s, insert_prob=0.3, mask_random=0.5),
    "shuffling": lambda s: noises.token_shuffling(s, shuffle_distance=2, unit="word", shuffle_prob=0.7),
    "sentences": lambda s: noises.sentence_permutation(s, permute_sentences=0.6),
    "rotation": lambda s: noises.document_rotation(s, sentinel=True, rotate_prob=0.5),
    "infilling": lambda s: noises.text_infilling(s, span_length="poisson", rounding="stochastic"),
    "overlap": lambda s: noises.text_infilling(s, placement="overlap", mask_random=0.5),
}
OUTPUT_SETTERS = {  # at most one in a chain
    "spans": lambda s: noises.span_corruption(s, max_tokens=256),
    "fragment": lambda s: noises.masked_fragment(s),
    "prefix": lambda s: noises.prefix_lm(s),
    "gap sentences": lambda s: noises.gap_sentences(s, strategy="principal"),
}
POOL = PLAIN | OUTPUT_SETTERS


def cases() -> dict[str, tuple]:
    """Three random chains and two random mixtures, which cover every kind of noise, and BART's noise."""
    random = np.random.default_rng(0)
    plain, setters = (random.permutation([*names]).tolist() for names in (PLAIN, OUTPUT_SETTERS))
    found = {}
    for k in range(3):
        names = random.permutation([*plain[k::3], setters[k]]).tolist()
        found["chain: " + ", ".join(names)] = chain_of, names
    for k in range(2):
        names = [*random.choice(plain, 2, replace=False).tolist(), setters[3 - k]]
        found["mixture: " + ", ".join(names)] = mixture_of, names
    return {**found, "bart_denoising": (bart, [])}


def chain_of(symbols, names):
    return noises.chain([POOL[name](symbols) for name in names])


def mixture_of(symbols, names):
    """A mixture of a chain of the first two, the second and the third, with and without a mode token."""
    members = [names[:2], names[1:2], names[2:]]
    rest = [(1.0, 800), (0.5, None), (0.7, 801)]
    return noises.mixture([(chain_of(symbols, own), *r) for own, r in zip(members, rest, strict=True)])


def bart(symbols, names):
    """BART's noise with all flags."""
    return noises.bart_denoising(symbols, insert=0.2, rotate=0.5, permute_sentences=0.5)


LENGTHS = [[5, 7, 12, 3], [], [1], [4, 4], [2], [9, 1, 1, 8]]  # of the sentences of each text
SENTENCES = [np.repeat(np.arange(1, 1 + len(own)), own).tolist() for own in LENGTHS]
TEXTS = [[10 + 50 * i + position for position in range(len(own))] for i, own in enumerate(SENTENCES)]
STEPS = [0, 50, 100, 10**6, 3, 7]
KEYS = np.random.default_rng(0).integers(-(2**63), 2**63, (4, len(TEXTS)))  # of four batches


@pytest.mark.parametrize(("build", "names"), cases().values(), ids=cases().keys())
def test_eager_and_dataset_agree(build, names):
    """Bit for bit. test_presets.py covers tf.function and other numbers of parallel calls."""
    batch = batch_of(TEXTS, SENTENCES, steps=tf.constant(STEPS, tf.int64))
    corruption = build(SYMBOLS, names)
    eager = [corruption(batch, tf.constant(keys)) for keys in KEYS]
    for example in examples_of(eager[0]):
        audit(example)
    expected = [[field.numpy() for field in tf.nest.flatten(noised)] for noised in eager]
    assert len({str(one) for one in expected}) == len(KEYS)

    @tf.autograph.experimental.do_not_convert  # as in the preprocessor
    def noise(keys):
        return tuple(tf.nest.flatten(corruption(batch, keys)))

    dataset = tf.data.Dataset.from_tensor_slices(KEYS).map(noise, num_parallel_calls=4)
    np.testing.assert_equal([list(one) for one in dataset.as_numpy_iterator()], expected)


def test_every_kind_of_noise_is_in_some_case():
    assert {name for _, names in cases().values() for name in names} == {*POOL}

"""Cached decoding against plain-Python searches over full forward passes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.generation import decoding
from denoise_jax.generation.logits_processors import Search
from denoise_jax.generation.search import generate_tokens
from denoise_jax.model import transformer

START, LENGTH = 2, 7


@pytest.fixture(scope="module")
def sources(vocab_size):
    """Six prompts; one is short, one is padding only."""
    tokens_BS = np.random.default_rng(5).integers(3, vocab_size, (6, 9)).astype(np.int32)
    tokens_BS[1, 4:] = 0
    tokens_BS[2] = 0
    return tokens_BS


@pytest.fixture(scope="module")
def lively(vocab_size):
    """lively(config): parameters of a model that does not write one token for ever."""

    @functools.lru_cache
    def make(config):
        random = np.random.default_rng(1)
        spread = {"positions": 1.0, "bias": 0.1, "scale": 0.1}

        def draw(path, leaf):
            name, values = path[-1].key, random.standard_normal(leaf.shape)
            if name == "tokens":
                values /= np.linalg.norm(values, axis=1, keepdims=True)
            else:
                values = spread.get(name, 0.8) * values + (name == "scale")
            return jnp.asarray(values, jnp.float32)

        shapes = jax.eval_shape(lambda: transformer.init_params(config, jax.random.key(0)))
        return jax.tree_util.tree_map_with_path(draw, shapes)

    return make


@pytest.fixture(scope="module")
def decode(jit, vocab_size, lively, sources):
    """decode(config, options): what `generate` writes for the sources."""
    quick = jit(generate_tokens.__wrapped__, static_argnames=("config", "vocab_size", "options"))
    return lambda config, options: quick(config, vocab_size, lively(config), jnp.asarray(sources), options)


@pytest.fixture(scope="module")
def ending(decode, vocab_size):
    """ending(config): a token for </s> at which greedy outputs end at different lengths."""

    @functools.lru_cache
    def choose(config):
        free = np.asarray(decode(config, Search(LENGTH, START, -1)).tokens_BRM[:, 0]).tolist()
        ends = {token: {(row + [token]).index(token) for row in free} for token in range(1, vocab_size)}
        return max(ends, key=lambda token: len(ends[token]))

    return choose


@pytest.fixture(scope="module")
def log_probabilities(jit, vocab_size, lively):
    """log_probabilities(config, source, written): of each next token, [real V], by a full forward pass."""

    @functools.lru_cache
    def compiled(config):
        params = lively(config)

        def last(source_S, written_T, count):
            segments_T = (jnp.arange(LENGTH + 1) < count).astype(jnp.int32)
            batch = {
                "encoder_input_tokens": source_S,
                "encoder_segment_ids": (source_S != 0).astype(jnp.int32),
                "encoder_positions": jnp.arange(len(source_S)),
                "decoder_input_tokens": written_T,
                "decoder_segment_ids": segments_T,
                "decoder_positions": jnp.arange(LENGTH + 1),
            }
            model = transformer.bind_params(config, params)
            logits_TV = model({name: x[None] for name, x in batch.items()})[0]
            return jax.nn.log_softmax(logits_TV[count - 1, :vocab_size])

        return jit(last)

    @functools.cache
    def remembered(config, source, written):
        padded = np.zeros(LENGTH + 1, np.int32)
        padded[: len(written)] = written
        result = compiled(config)(jnp.asarray(source, jnp.int32), jnp.asarray(padded), len(written))
        return np.asarray(result, np.float64)

    return lambda config, source, written: remembered(config, tuple(source.tolist()), tuple(written))


def allowed(scores, written, options):
    """The scores with what may not be written at -inf, and a forced token at 0."""
    scores, size, new = scores.copy(), options.no_repeat_ngram_size, len(written) - 1
    if size:
        ngrams = {tuple(written[i : i + size]) for i in range(len(written) - size + 1)}
        recent = tuple(written[len(written) - size + 1 :])
        for token in range(len(scores)):
            if len(recent) == size - 1 and (*recent, token) in ngrams:
                scores[token] = -np.inf
    if new < options.min_new_tokens:
        scores[options.end_id] = -np.inf
    for forced, place in ((options.forced_bos_id, 0), (options.forced_eos_id, options.max_new_tokens - 1)):
        if forced is not None and new == place:
            scores[:] = -np.inf
            scores[forced] = 0
    return scores


def plain_greedy(next_scores, options):
    """(tokens, score) of the likeliest token at each place."""
    written, total = [START], 0.0
    while len(written) <= options.max_new_tokens and written[-1] != options.end_id:
        scores = allowed(next_scores(written), written, options)
        written.append(int(scores.argmax()))
        total += scores[written[-1]]
    return [(written[1:], total / (len(written) - 1) ** options.length_penalty)]


def plain_beam_search(next_scores, options):
    """[(tokens, score), ...] best first: one list of running beams, one of finished outputs."""
    count, penalty = options.num_beams, options.length_penalty
    running, finished = [([START], 0.0)], []
    for length in range(1, options.max_new_tokens + 1):
        candidates = []
        for written, total in running:
            scores = allowed(next_scores(written), written, options)
            candidates += [([*written, token], total + scores[token]) for token in range(len(scores))]
        candidates.sort(key=lambda candidate: -candidate[1])
        candidates = candidates[: 2 * count]
        last = length == options.max_new_tokens
        new = [c for c in candidates[:count] if (last or c[0][-1] == options.end_id) and c[1] > -np.inf]
        finished += [(written[1:], total / length**penalty) for written, total in new]
        finished = sorted(finished, key=lambda output: -output[1])[:count]
        running = [c for c in candidates if c[0][-1] != options.end_id and c[1] > -np.inf][:count]
        if last or (len(finished) == count and options.early_stopping is True):
            break
        never = options.early_stopping == "never" and penalty > 0
        credited = options.max_new_tokens if never else length
        if len(finished) == count and running[0][1] / credited**penalty <= finished[-1][1]:
            break
    return finished


def check(got, expected, row):
    for place, (tokens, score) in enumerate(expected):
        length = int(got.lengths_BR[row, place])
        assert got.tokens_BRM[row, place, :length].tolist() == tokens
        assert not got.tokens_BRM[row, place, length:].any(), "padding behind the end"
        assert got.scores_BR[row, place] == pytest.approx(score, abs=2e-4)


VARIANTS = {
    "post-norm": {},
    "pre-norm, untied": {
        "norm_position": "pre",
        "tie_embeddings": False,
        "scan_layers": True,
        "remat": "full",
    },
    "scaled": {"scale_embedding": True, "embedding_norm": False},
}
CASES = {
    "greedy": ("post-norm", {}),
    "greedy, pre-norm, untied": ("pre-norm, untied", {}),
    "greedy, modern": ("modern", {"no_repeat_ngram_size": 2}),
    "beams, modern": ("modern", {"num_beams": 3, "no_repeat_ngram_size": 2}),
    "greedy, scaled": ("scaled", {"no_repeat_ngram_size": 2, "min_new_tokens": 3}),
    "beams": ("post-norm", {"num_beams": 3}),
    "beams, pre-norm, untied": ("pre-norm, untied", {"num_beams": 4, "early_stopping": True}),
    "beams, forced": (
        "post-norm",
        {"num_beams": 3, "forced_bos_id": 9, "forced_eos_id": "end", "no_repeat_ngram_size": 1},
    ),
    "beams, never": ("post-norm", {"num_beams": 2, "length_penalty": 0.6, "early_stopping": "never"}),
    "beams, short": ("scaled", {"num_beams": 2, "length_penalty": -0.5, "no_repeat_ngram_size": 3}),
}


@pytest.mark.parametrize(("variant", "fields"), CASES.values(), ids=CASES.keys())
def test_equals_a_plain_search(tiny, modern, decode, ending, sources, log_probabilities, variant, fields):
    config = tiny(**{**VARIANTS, "modern": modern}[variant])
    end = ending(config)
    fields = {name: end if value == "end" else value for name, value in fields.items()}
    options = Search(LENGTH, START, end, **fields, num_return_sequences=fields.get("num_beams", 1))
    got = decode(config, options)
    assert got.tokens_BRM.shape == (len(sources), options.num_return_sequences, LENGTH)
    assert got.tokens_BRM.dtype == got.lengths_BR.dtype == jnp.int32
    search = plain_beam_search if options.num_beams > 1 else plain_greedy
    for row, source in enumerate(sources):
        if not source.any():
            assert not any(np.asarray(array[row]).any() for array in got), "a source of padding only"
            continue
        check(got, search(functools.partial(log_probabilities, config, source), options), row)
    if "forced_eos_id" not in fields:
        lengths = set(got.lengths_BR.ravel().tolist()) - {0}
        assert len(lengths) > 1, "outputs of one length: this would test little"


@pytest.mark.parametrize("fields", [{}, {"num_beams": 2}], ids=["greedy", "beams"])
def test_stops_when_every_row_has_ended(tiny, lively, vocab_size, sources, jit, monkeypatch, fields):
    config, steps, end = tiny(), [], 1
    start = decoding.start

    def counted(*arguments, **options):
        step, cache = start(*arguments, **options)

        def step_and_count(tokens_BN, index, *rest):
            jax.debug.callback(lambda i: steps.append(int(i)), index)
            return step(tokens_BN, index, *rest)

        return step_and_count, cache

    monkeypatch.setattr(decoding, "start", counted)
    # </s> is forced as the first token, with a score of 0 that no beam can reach.
    options = Search(LENGTH, START, end, forced_bos_id=end, **fields)
    fresh = jit(generate_tokens.__wrapped__, static_argnames=("config", "vocab_size", "options"))
    got = fresh(config, vocab_size, lively(config), jnp.asarray(sources), options)
    jax.block_until_ready(got)
    jax.effects_barrier()
    np.testing.assert_array_equal(got.lengths_BR[:, 0], sources.any(axis=1))
    # The second beam has to end as well: it holds </s> too, at a score of -1e9.
    assert sorted(steps) == list(range(1 if options.num_beams == 1 else max(steps) + 1))
    assert max(steps) < LENGTH - 1


def test_what_cannot_be_is_refused(tiny, decode):
    config = tiny()
    with pytest.raises(ValueError, match="max_new_tokens=21 exceeds max_positions=20"):
        decode(config, Search(21, START, 1))
    with pytest.raises(ValueError, match="num_return_sequences=3 exceeds num_beams=2"):
        decode(config, Search(LENGTH, START, 1, num_beams=2, num_return_sequences=3))
    with pytest.raises(ValueError, match="draws from keys_B"):
        decode(config, Search(LENGTH, START, 1, do_sample=True))

"""A tiny model whose outputs vary, and plain-Python searches over full forward passes to compare with."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from denoise_jax.config import Config, ModelConfig, ParallelConfig
from denoise_jax.generation.decoding import DecodingOptions
from denoise_jax.generation.search import generate_tokens
from denoise_jax.model import transformer
from denoise_jax.parallel.mesh import make_mesh
from denoise_jax.parallel.sharding import state_shardings
from denoise_jax.runs.load_model import LoadedModel
from denoise_jax.vocabulary.load import load_vocabulary
from tests.model.helpers import VOCAB_SIZE, jit

START, LENGTH = 2, 7

# Six prompts; one is short, one is empty.
SOURCES = np.random.default_rng(5).integers(3, VOCAB_SIZE, (6, 9)).astype(np.int32)
SOURCES[1, 4:] = 0
SOURCES[2] = 0

# Shared by all tests, so that equal searches are compiled once.
quick_generate = jit(generate_tokens.__wrapped__, static_argnames=("config", "options"))


@functools.lru_cache
def lively_params(config: ModelConfig) -> dict:
    """Random parameters with which a model does not repeat one token."""
    random = np.random.default_rng(1)
    scales = {"positions": 1.0, "bias": 0.1, "scale": 0.1}

    def draw(path, leaf):
        name, values = path[-1].key, random.standard_normal(leaf.shape)
        if name == "tokens":
            values /= np.linalg.norm(values, axis=1, keepdims=True)
        else:
            values = scales.get(name, 0.8) * values + (name == "scale")
        return jnp.asarray(values, jnp.float32)

    shapes = jax.eval_shape(lambda: transformer.init_params(config, jax.random.key(0)))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def decode(config: ModelConfig, options: DecodingOptions):
    """What `generate_tokens` returns for SOURCES."""
    return quick_generate(config, lively_params(config), jnp.asarray(SOURCES), options)


@functools.lru_cache
def end_token(config: ModelConfig) -> int:
    """A token that, used as </s>, makes greedy outputs end at different lengths."""
    outputs = np.asarray(decode(config, DecodingOptions(LENGTH, START, -1)).tokens_BRM[:, 0]).tolist()
    ends = {token: {(row + [token]).index(token) for row in outputs} for token in range(1, VOCAB_SIZE)}
    return max(ends, key=lambda token: len(ends[token]))


@functools.lru_cache
def _last_log_probs(config: ModelConfig):
    def last(params, source_S, history_T, count):
        batch = {
            "encoder_input_tokens": source_S,
            "encoder_segment_ids": (source_S != 0).astype(jnp.int32),
            "encoder_positions": jnp.arange(len(source_S)),
            "decoder_input_tokens": history_T,
            "decoder_segment_ids": (jnp.arange(LENGTH + 1) < count).astype(jnp.int32),
            "decoder_positions": jnp.arange(LENGTH + 1),
        }
        model = transformer.bind_params(config, params)
        logits_TV = model({name: x[None] for name, x in batch.items()})[0]
        return jax.nn.log_softmax(logits_TV[count - 1, :VOCAB_SIZE])

    return jit(last)


@functools.cache
def log_probs(config: ModelConfig, source: tuple[int, ...], history: tuple[int, ...]) -> np.ndarray:
    """Log-probabilities of the next token, float64 [VOCAB_SIZE], by a full forward pass."""
    padded = np.zeros(LENGTH + 1, np.int32)
    padded[: len(history)] = history
    source_S = jnp.asarray(source, jnp.int32)
    result = _last_log_probs(config)(lively_params(config), source_S, jnp.asarray(padded), len(history))
    return np.asarray(result, np.float64)


def plain_process(scores: np.ndarray, history: list[int], options: DecodingOptions) -> np.ndarray:
    """The scores with -inf for tokens that must not be generated, and 0 for a forced token."""
    scores, size, index = scores.copy(), options.no_repeat_ngram_size, len(history) - 1
    if size:
        ngrams = {tuple(history[i : i + size]) for i in range(len(history) - size + 1)}
        recent = tuple(history[len(history) - size + 1 :])
        for token in range(len(scores)):
            if len(recent) == size - 1 and (*recent, token) in ngrams:
                scores[token] = -np.inf
    if index < options.min_new_tokens:
        scores[options.end_id] = -np.inf
    for forced, at in ((options.forced_bos_id, 0), (options.forced_eos_id, options.max_new_tokens - 1)):
        if forced is not None and index == at:
            scores[:] = -np.inf
            scores[forced] = 0
    return scores


def plain_greedy(next_scores, options: DecodingOptions):
    """[(tokens, score)]: the most likely token at each position."""
    history, total = [START], 0.0
    while len(history) <= options.max_new_tokens and history[-1] != options.end_id:
        scores = plain_process(next_scores(history), history, options)
        history.append(int(scores.argmax()))
        total += scores[history[-1]]
    return [(history[1:], total / (len(history) - 1) ** options.length_penalty)]


def plain_beam_search(next_scores, options: DecodingOptions):
    """[(tokens, score), ...], best first: a list of running beams and a list of finished outputs."""
    beams, penalty = options.num_beams, options.length_penalty
    running, finished = [([START], 0.0)], []
    for length in range(1, options.max_new_tokens + 1):
        candidates = []
        for history, total in running:
            scores = plain_process(next_scores(history), history, options)
            candidates += [([*history, token], total + scores[token]) for token in range(len(scores))]
        candidates.sort(key=lambda candidate: -candidate[1])
        candidates = candidates[: 2 * beams]
        last = length == options.max_new_tokens
        new = [c for c in candidates[:beams] if (last or c[0][-1] == options.end_id) and c[1] > -np.inf]
        finished += [(history[1:], total / length**penalty) for history, total in new]
        finished = sorted(finished, key=lambda output: -output[1])[:beams]
        running = [c for c in candidates if c[0][-1] != options.end_id and c[1] > -np.inf][:beams]
        if last or (len(finished) == beams and options.early_stopping is True):
            break
        never = options.early_stopping == "never" and penalty > 0
        best_length = options.max_new_tokens if never else length
        if len(finished) == beams and running[0][1] / best_length**penalty <= finished[-1][1]:
            break
    return finished


def check_search(config: ModelConfig, **fields) -> None:
    """Asserts that a search with these options equals the plain one; "end" is the id of </s>."""
    end = end_token(config)
    fields = {name: end if value == "end" else value for name, value in fields.items()}
    options = DecodingOptions(LENGTH, START, end, **fields, num_return_sequences=fields.get("num_beams", 1))
    got = decode(config, options)
    assert got.tokens_BRM.shape == (len(SOURCES), options.num_return_sequences, LENGTH)
    assert got.tokens_BRM.dtype == got.lengths_BR.dtype == jnp.int32
    plain = plain_beam_search if options.num_beams > 1 else plain_greedy
    for row, source in enumerate(SOURCES):
        if not source.any():
            assert not any(np.asarray(array[row]).any() for array in got), "an empty prompt"
            continue
        next_scores = functools.partial(_next_scores, config, tuple(source.tolist()))
        for rank, (tokens, score) in enumerate(plain(next_scores, options)):
            length = int(got.lengths_BR[row, rank])
            assert got.tokens_BRM[row, rank, :length].tolist() == tokens
            assert not got.tokens_BRM[row, rank, length:].any(), "padding after the end"
            assert got.scores_BR[row, rank] == pytest.approx(score, abs=2e-4)
    if "forced_eos_id" not in fields:
        lengths = set(got.lengths_BR.ravel().tolist()) - {0}
        assert len(lengths) > 1, "outputs of equal length test little"


def _next_scores(config: ModelConfig, source: tuple[int, ...], history: list[int]) -> np.ndarray:
    return log_probs(config, source, tuple(history))


def loaded_model(
    config: Config, vocabulary_folder, *, devices: int = 1, fsdp: int = 1, **changes
) -> LoadedModel:
    """A model with random parameters on a mesh; `changes` are of its configuration."""
    model = {"init_std": 0.3, "compute_dtype": "float32", **changes.pop("model", {})}
    config = config.replace(model=model, **changes)
    mesh = make_mesh(ParallelConfig(fsdp=fsdp), jax.devices()[:devices])
    params = _random_params(config.model)
    shardings = state_shardings({"params": params}, mesh, shard_moments=False)["params"]
    vocabulary = load_vocabulary(vocabulary_folder)
    return LoadedModel(config, vocabulary, jax.device_put(params, shardings), 1, mesh)


@functools.lru_cache
def _random_params(config: ModelConfig) -> dict:
    return transformer.init_params(config, jax.random.key(1))

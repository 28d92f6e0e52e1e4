"""Presets: corruptions by name, for tasks and the command line."""

import dataclasses
from collections.abc import Callable

from denoise_jax.corruption.compose import chain, mixture
from denoise_jax.corruption.deletion import token_deletion
from denoise_jax.corruption.fairseq import bart_denoising
from denoise_jax.corruption.fragments import masked_fragment
from denoise_jax.corruption.gap_sentences import gap_sentences
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.insertion import token_insertion
from denoise_jax.corruption.masking import token_masking, token_replacement
from denoise_jax.corruption.options import CorruptionError
from denoise_jax.corruption.prefix_lm import prefix_lm
from denoise_jax.corruption.rates import Linear
from denoise_jax.corruption.record import Corruption
from denoise_jax.corruption.rotation import document_rotation
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from denoise_jax.corruption.shuffling import token_shuffling
from denoise_jax.corruption.span_corruption import span_corruption
from denoise_jax.corruption.symbols import Symbols
from denoise_jax.errors import nearest

Build = Callable[[Symbols, int], Corruption]


@dataclasses.dataclass(frozen=True)
class Preset:
    """How to build a corruption, given a vocabulary and the maximum number of tokens, and what it does."""

    build: Build
    documentation: str


PRESETS: dict[str, Preset] = {}


def build(name: str, symbols: Symbols, *, max_tokens: int = 512) -> Corruption:
    """Builds the preset `name` for texts of up to `max_tokens` tokens.

    Raises CorruptionError for an unknown name, and if the vocabulary lacks special tokens that it needs.
    """
    if name not in PRESETS:
        raise CorruptionError(f"corruption={name!r} is unknown; {nearest(name, PRESETS)}")
    return PRESETS[name].build(symbols, max_tokens)


def _preset(build: Build) -> Build:
    """Registers a function under its name, with its docstring as the documentation."""
    PRESETS[build.__name__.lstrip("_")] = Preset(build, " ".join(build.__doc__.split()))
    return build


@_preset
def _none(symbols: Symbols, max_tokens: int) -> Corruption:
    """No noise: the input is the text itself. The baseline for comparisons, and what a fine-tuned model
    reads."""
    return chain([])


@_preset
def _token_masking(symbols: Symbols, max_tokens: int) -> Corruption:
    """15 % of the tokens each become a mask. Teaches local context. Lewis et al. 2019, section 2.2, after
    Devlin et al. 2019."""
    return token_masking(symbols, mask_prob=0.15, random_prob=0.0, keep_prob=0.0)


@_preset
def _bert(symbols: Symbols, max_tokens: int) -> Corruption:
    """BERT's token masking: 15 % of the tokens are chosen, of which 80 % become a mask, 10 % a random token,
    and 10 % are kept. Devlin et al. 2019, section 3.1."""
    return token_masking(symbols, mask_prob=0.15, random_prob=0.1, keep_prob=0.1)


@_preset
def _token_deletion(symbols: Symbols, max_tokens: int) -> Corruption:
    """15 % of the tokens are deleted without a trace. Teaches what is missing, and where. Lewis et al. 2019,
    section 2.2."""
    return token_deletion(symbols, deletion_prob=0.15)


@_preset
def _token_replacement(symbols: Symbols, max_tokens: int) -> Corruption:
    """15 % of the tokens become random tokens, and nothing marks which. Like the corrupted input of ELECTRA
    (Clark et al. 2020), but with uniform replacements."""
    return token_replacement(symbols, replace_prob=0.15)


@_preset
def _token_insertion(symbols: Symbols, max_tokens: int) -> Corruption:
    """Random tokens are inserted at random positions, as many as 10 % of the text. Teaches what to drop.
    fairseq's `insert` noise."""
    return token_insertion(symbols, insert_prob=0.1, mask_random=1.0)


@_preset
def _token_shuffling(symbols: Symbols, max_tokens: int) -> Corruption:
    """Tokens change places with nearby ones, none by more than 3 positions. Teaches syntax and word order
    while no token is lost. Lample et al. 2018, section 2.3."""
    return token_shuffling(symbols, shuffle_distance=3)


@_preset
def _token_shuffling_global(symbols: Symbols, max_tokens: int) -> Corruption:
    """All tokens of a text in random order: the limit of local shuffling."""
    return token_shuffling(symbols, shuffle_distance=None)


@_preset
def _sentence_permutation(symbols: Symbols, max_tokens: int) -> Corruption:
    """All sentences in random order; every token is kept. Teaches discourse and coherence. Lewis et al. 2019,
    section 2.2."""
    return sentence_permutation(symbols)


@_preset
def _document_rotation(symbols: Symbols, max_tokens: int) -> Corruption:
    """The text is rotated to begin with a random token. Teaches how texts begin. Lewis et al. 2019,
    section 2.2."""
    return document_rotation(symbols)


@_preset
def _document_rotation_sentinel(symbols: Symbols, max_tokens: int) -> Corruption:
    """The text is rotated to begin with a random token, and a special token marks its original beginning."""
    return document_rotation(symbols, sentinel=True)


@_preset
def _text_infilling(symbols: Symbols, max_tokens: int) -> Corruption:
    """30 % of the tokens are hidden in spans of geometric length with mean 3 (a third of them single tokens),
    each replaced by one mask. Teaches content and length. Lewis et al. 2019, section 2.2, with the span
    lengths of SpanBERT (Joshi et al. 2020)."""
    return text_infilling(symbols)


@_preset
def _infilling_curriculum(symbols: Symbols, max_tokens: int) -> Corruption:
    """Text infilling of increasing difficulty: the share of hidden tokens rises from 15 % to 50 % over the
    first 100,000 training steps and then stays there."""
    return text_infilling(symbols, mask_prob=Linear(0.15, 0.5, steps=100_000))


@_preset
def _handbook(symbols: Symbols, max_tokens: int) -> Corruption:
    """One of seven kinds of noise per example, with equal probability: 15 % masked, 15 % deleted, shuffled
    within 3 positions, sentences permuted, rotated with a marker, 30 % infilled with geometric spans of mean
    3, or sentence permutation followed by infilling. Variety makes for a versatile model."""
    infilling = text_infilling(symbols, mask_prob=0.3, span_length="geometric", mean_span_length=3.0)
    kinds = [
        _token_masking(symbols, max_tokens),
        token_deletion(symbols, deletion_prob=0.15),
        token_shuffling(symbols, shuffle_distance=3),
        sentence_permutation(symbols),
        document_rotation(symbols, sentinel=True),
        infilling,
        chain([sentence_permutation(symbols), infilling]),
    ]
    return mixture([(kind, 1.0, None) for kind in kinds])


@_preset
def _bart_paper(symbols: Symbols, max_tokens: int) -> Corruption:
    """BART's noise as described in the paper (Lewis et al. 2019, sections 2.2 and 5.1): all sentences are
    permuted, then 30 % of the tokens are infilled with Poisson spans of lambda 3, where spans of length zero
    insert a mask. Unlike in the released code, exactly 30 % are hidden, evenly over the text."""
    return chain(
        [
            sentence_permutation(symbols, permute_sentences=1.0),
            text_infilling(symbols, mask_prob=0.3, span_length="poisson", mean_span_length=3.0),
        ]
    )


@_preset
def _bart_fairseq(symbols: Symbols, max_tokens: int) -> Corruption:
    """BART's noise as in its released training command: all sentences are permuted, then words are infilled
    with Poisson spans of lambda 3.5, which overlap, so that 26.6 % are hidden instead of 30 %; one mask in
    ten becomes a random token."""
    return bart_denoising(symbols)


@_preset
def _mbart(symbols: Symbols, max_tokens: int) -> Corruption:
    """mBART's noise (Liu et al. 2020, section 2.2): all sentences are permuted, then 35 % of the words are
    infilled with Poisson spans of lambda 3.5; tokens if the vocabulary does not say where words begin. Give
    the task a language to get mBART's language tokens."""
    words = symbols.word_starts is not None
    infilling = text_infilling(
        symbols, mask_prob=0.35, span_length="poisson", mean_span_length=3.5, whole_word=words
    )
    return chain([sentence_permutation(symbols), infilling])


@_preset
def _xlm(symbols: Symbols, max_tokens: int) -> Corruption:
    """The noise of unsupervised translation (Lample et al. 2018; XLM): words are shuffled within 3
    positions, then each is deleted with probability 0.1, then each is masked with probability 0.1; tokens if
    the vocabulary does not say where words begin."""
    words = symbols.word_starts is not None
    each = {"selection": "bernoulli", "whole_word": words}
    return chain(
        [
            token_shuffling(symbols, shuffle_distance=3, unit="word" if words else "token"),
            token_deletion(symbols, deletion_prob=0.1, **each),
            token_masking(symbols, mask_prob=0.1, random_prob=0.0, keep_prob=0.0, **each),
        ]
    )


@_preset
def _prefix_lm(symbols: Symbols, max_tokens: int) -> Corruption:
    """The encoder reads the text up to a random position, and the decoder writes the rest. Liu et al. 2018;
    Raffel et al. 2020, section 3.2.3."""
    return prefix_lm(symbols)


@_preset
def _mass(symbols: Symbols, max_tokens: int) -> Corruption:
    """One fragment of half the text is masked token by token, and the decoder writes it. Song et al. 2019."""
    return masked_fragment(symbols)


@_preset
def _t5_span(symbols: Symbols, max_tokens: int) -> Corruption:
    """T5's span corruption (Raffel et al. 2020, section 3.1.4): 15 % of the tokens are hidden in spans of
    mean length 3, each replaced by its own sentinel; the decoder writes the sentinels and the tokens that
    they hide. Unlike in the released code, every token is equally likely to be hidden."""
    return span_corruption(symbols, max_tokens=max_tokens)


@_preset
def _ul2(symbols: Symbols, max_tokens: int) -> Corruption:
    """UL2's seven denoisers, with equal probability (Tay et al. 2022, section 3.1): regular spans (mean 3 or
    8, 15 %), extreme spans (mean 3, 8 or 64, 15 % or 50 %) and a prefix LM, each announced by its mode token
    [R], [X] or [S] before the text."""

    def spans(density: float, mean: float) -> Corruption:
        return span_corruption(
            symbols, noise_density=density, mean_noise_span_length=mean, max_tokens=max_tokens
        )

    regular, extreme, prefix = (symbols.mode(name) for name in ("[R]", "[X]", "[S]"))
    return mixture(
        [
            *((spans(0.15, mean), 1.0, regular) for mean in (3.0, 8.0)),
            *((spans(0.5, mean), 1.0, extreme) for mean in (3.0, 8.0, 64.0)),
            (spans(0.15, 64.0), 1.0, extreme),
            (prefix_lm(symbols), 1.0, prefix),
        ],
        symbols=symbols,
    )


@_preset
def _pegasus(symbols: Symbols, max_tokens: int) -> Corruption:
    """Gap sentences (Zhang et al. 2020): the 30 % of the sentences that share the most words with the rest
    each become a mask, and the decoder writes them. Teaches summarization."""
    return gap_sentences(symbols, strategy="principal")

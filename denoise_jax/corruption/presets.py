"""Corruptions by name: what a task, a command line or a comparison asks for."""

import dataclasses
import difflib
from collections.abc import Callable

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.record import Corruption
from denoise_jax.corruption.sentences import sentence_permutation
from denoise_jax.corruption.symbols import CorruptionError, Symbols


@dataclasses.dataclass(frozen=True)
class Preset:
    """How to build a corruption for a vocabulary, and a paragraph on what it does and where it comes from."""

    build: Callable[[Symbols], Corruption]
    documentation: str


def _bart_paper(symbols: Symbols) -> Corruption:
    return chain(
        [
            sentence_permutation(symbols, permute_sentences=1.0),
            text_infilling(symbols, mask_prob=0.3, span_length="poisson", mean_span_length=3.0),
        ]
    )


PRESETS: dict[str, Preset] = {
    "none": Preset(
        lambda symbols: chain([]),
        "No noise: the text is its own input. The baseline of comparisons, and what a tuned model sees.",
    ),
    "text_infilling": Preset(
        lambda symbols: text_infilling(symbols),
        "Text infilling alone: 30 % of the tokens, in spans of geometric length with mean 3 (a third of them "
        "single tokens), each span behind one mask. It teaches content and length. After Lewis et al. 2019, "
        "section 2.2, with SpanBERT's family of lengths (Joshi et al. 2020).",
    ),
    "sentence_permutation": Preset(
        lambda symbols: sentence_permutation(symbols),
        "All sentences in random order, every token kept. It teaches discourse and coherence. "
        "Lewis et al. 2019, section 2.2.",
    ),
    "bart_paper": Preset(
        _bart_paper,
        "The noise of BART as its paper tells it (Lewis et al. 2019, sections 2.2 and 5.1): all sentences "
        "permuted, then 30 % of the tokens infilled with Poisson spans of lambda 3, where spans of length "
        "zero insert a mask. Unlike the released code it hides 30 % exactly, evenly over the text.",
    ),
}


def build(name: str, symbols: Symbols, *, max_tokens: int = 512) -> Corruption:
    """The corruption called `name`; raises CorruptionError that tells the nearest names."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(sorted(PRESETS))}"
        raise CorruptionError(f"corruption={name!r} is unknown; {hint}")
    return PRESETS[name].build(symbols)

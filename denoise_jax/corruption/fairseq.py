"""BART's noise under the names of fairseq's flags, for those who carry a command line over."""

from denoise_jax.corruption.compose import chain
from denoise_jax.corruption.infilling import text_infilling
from denoise_jax.corruption.insertion import token_insertion
from denoise_jax.corruption.options import CorruptionError, check_number
from denoise_jax.corruption.rates import Rate
from denoise_jax.corruption.record import Corruption
from denoise_jax.corruption.rotation import document_rotation
from denoise_jax.corruption.sentence_permutation import sentence_permutation
from denoise_jax.corruption.span_lengths import MAX_MEAN
from denoise_jax.corruption.symbols import Symbols

MASK_LENGTHS = ("subword", "word", "span-poisson")


def bart_denoising(
    symbols: Symbols,
    *,
    mask: float = 0.3,
    mask_length: str = "span-poisson",
    poisson_lambda: float = 3.5,
    replace_length: int = 1,
    mask_random: float = 0.1,
    permute_sentences: float = 1.0,
    rotate: float = 0.0,
    insert: float = 0.0,
    placement: str = "overlap",
) -> Corruption:
    """The noise of fairseq's `denoising` task, in its order: sentences, masks, insertions, rotation.

    The defaults are those of the command with which BART was trained. With placement="overlap", spans run
    over each other as they do there, so that mask=0.3 hides some 26.6 %; "roll" hides 30 % exactly. Masks
    count words where the vocabulary tells where they begin, as the flags "word" and "span-poisson" ask,
    and tokens where it does not.

    Where we differ on purpose: sentences are found by a splitter and not by one id of GPT-2's vocabulary;
    random tokens are tokens of text, never padding or </s>; a rotation by nothing is as likely as any other;
    the number of random insertions is binomial and not rounded up; a text's first word can be hidden.
    Raises CorruptionError, under the names given here, for a value outside its bounds.
    """
    # The corruptions below check the same, but under their own names.
    shares = {
        name: Rate(share, name) for name, share in {"mask": mask, "insert": insert, "rotate": rotate}.items()
    }
    check_number("poisson_lambda", poisson_lambda, 1, MAX_MEAN, must=f"lie in 1 ... {MAX_MEAN:g}")
    if mask_length not in MASK_LENGTHS:
        raise CorruptionError(
            f"mask_length={mask_length!r} is unknown; choose one of {', '.join(MASK_LENGTHS)}"
        )
    spans = {"span_length": "constant", "mean_span_length": 1}
    if mask_length == "span-poisson":
        spans = {"span_length": "poisson", "mean_span_length": poisson_lambda}
    members = [
        sentence_permutation(symbols, permute_sentences=permute_sentences),
        text_infilling(
            symbols,
            mask_prob=mask,
            replace_length=replace_length,
            mask_random=mask_random,
            whole_word=mask_length != "subword" and symbols.word_starts is not None,
            placement=placement,
            **spans,
        ),
    ]
    if not shares["insert"].never:
        members.append(token_insertion(symbols, insert_prob=insert, mask_random=mask_random))
    if not shares["rotate"].never:
        members.append(document_rotation(symbols, rotate_prob=rotate))
    return chain(members)

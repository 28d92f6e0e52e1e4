"""BART's noise under the names of fairseq's flags, for migrating command lines."""

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

    The defaults are those of the command that trained BART. placement="overlap" lets spans overlap as in
    fairseq, where mask=0.3 hides about 26.6 %; "roll" hides exactly 30 %. "word" and "span-poisson" count in
    words if the vocabulary says where words begin, and otherwise in tokens.

    Deliberate differences from fairseq: sentences are found by a splitter instead of one id of GPT-2's
    vocabulary; random tokens are tokens of text, never padding or </s>; all rotations are equally likely,
    including the identity; the number of random insertions is binomial instead of rounded up; the first word
    of a text can be hidden.

    Raises CorruptionError, with the names given here, for a value out of bounds.
    """
    # The corruptions below make the same checks, but report them under their own names.
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

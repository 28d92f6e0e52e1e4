"""Filling in the masks of a text with a trained model. Needs no TensorFlow."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from denoise_jax.data.vocabulary import EOS_ID, MASK
from denoise_jax.errors import UserError
from denoise_jax.evaluation.load import Model
from denoise_jax.model.decoding import greedy

_LENGTH_STEP = 32  # prompts are padded to a multiple of this, so that few shapes are compiled


def check_texts(texts: Sequence[str], allow_no_mask: bool = False) -> None:
    """UserError for a text that is empty, or has nothing to fill in and is not allowed to."""
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise UserError(f"text {number} is empty")
        if MASK not in text and not allow_no_mask:
            raise UserError(
                f"text {number} has no {MASK}, so there is nothing to fill in: put {MASK} where words are "
                "missing, or pass --allow-no-mask to have the text restored as it is"
            )


def fill(
    model: Model, texts: Sequence[str], *, max_length: int | None = None
) -> tuple[list[str], list[bool]]:
    """The texts as the model restores them: greedy decoding of each whole text.

    Args:
      texts: each with `<mask>` where words are missing, any number of words behind each.
      max_length: longest output in tokens; default: the longest piece that the model was trained on.

    Returns:
      The restored texts, and for each whether it ended by itself before `max_length`.

    Raises:
      UserError: a text, or `max_length`, beyond the pieces that the model was trained on.
    """
    config, limit = model.config, model.config.data.piece_length
    max_length = limit if max_length is None else max_length
    if not 0 < max_length <= limit:
        raise UserError(
            f"max_length={max_length} is not between 1 and {limit}, the longest piece of its training"
        )
    tokens_BS = _prompts(model, texts, limit)
    output_BT, lengths_B = greedy(
        config.model,
        len(model.vocabulary),
        model.params,
        jnp.asarray(tokens_BS),
        max_length=max_length,
        start_id=model.vocabulary.bos_id,
        end_id=EOS_ID,
    )
    rows = [
        ids[:count].tolist() for ids, count in zip(np.asarray(output_BT), np.asarray(lengths_B), strict=True)
    ]
    return [model.vocabulary.decode(ids) for ids in rows], [ids[-1] == EOS_ID for ids in rows]


def _prompts(model: Model, texts: Sequence[str], limit: int) -> np.ndarray:
    """int32 [texts, length]: each text closed with </s> and padded with 0."""
    rows = [[*model.vocabulary.encode_masked(text), EOS_ID] for text in texts]
    for number, ids in enumerate(rows, 1):
        if len(ids) > limit:
            raise UserError(
                f"text {number} has {len(ids)} tokens, but the model was trained on at most {limit}: "
                "shorten it"
            )
    length = min(-(-max(map(len, rows)) // _LENGTH_STEP) * _LENGTH_STEP, model.config.model.max_positions)
    tokens_BS = np.zeros((len(rows), length), np.int32)
    for row, ids in zip(tokens_BS, rows, strict=True):
        row[: len(ids)] = ids
    return tokens_BS

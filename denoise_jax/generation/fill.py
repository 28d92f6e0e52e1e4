"""Texts to texts with a trained model: masks filled in, or what fine-tuning taught. Needs no TensorFlow."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from denoise_jax.config import Config, GenerationConfig
from denoise_jax.errors import UserError
from denoise_jax.generation.prompts import encode_prompt, generate
from denoise_jax.runs.load_model import LoadedModel
from denoise_jax.vocabulary.base import MASK


class Written(NamedTuple):
    """A text that was written, the score that ranked it, and whether it ended by itself."""

    text: str
    score: float
    complete: bool


def denoises(config: Config) -> bool:
    """Whether a run is known to have learnt from noise alone, so that its texts need masks.

    Imported weights and runs that began with the weights of another may have learnt anything.
    """
    return config.data.task is not None and config.training.init_from is None


def check_texts(texts: Sequence[str], *, masks: bool, name: str = "text") -> None:
    """UserError for a text that is empty, or has nothing to fill in where `masks` are needed."""
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise UserError(f"{name} {number} is empty")
        if masks and MASK not in text:
            raise UserError(
                f"{name} {number} has no {MASK}, so there is nothing to fill in: put {MASK} where words are "
                "missing, or pass --allow-no-mask to have the text restored as it is"
            )


def fill(
    model: LoadedModel,
    texts: Sequence[str],
    options: GenerationConfig | None = None,
    *,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
) -> list[list[Written]]:
    """What the model writes for each text, by the run's options or others: best first.

    Args:
      model: of `load_model`.
      texts: each with `<mask>` where words are missing, any number of words behind each; or plain prompts
        for a fine-tuned model.
      options: default: `model.config.generation`.
      batch_size: texts that go through the model together.
      progress: called with the number of texts done.

    Raises:
      UserError: options that do not fit the model, or a text beyond the pieces that it was trained on (beyond
        its positions, where the run began with other weights).
    """
    config = model.config
    options = config.generation if options is None else options
    prompts = [encode_prompt(model.vocabulary, text, options) for text in texts]
    limit = config.data.max_chunk_length if denoises(config) else config.model.max_positions
    for number, ids in enumerate(prompts, 1):
        if len(ids) > limit:
            raise UserError(
                f"text {number} has {len(ids)} tokens, but the model takes at most {limit}: shorten it"
            )
    outputs = generate(model, prompts, options, batch_size=batch_size, progress=progress)
    return [
        [Written(model.vocabulary.decode(output.ids), output.score, output.complete) for output in found]
        for found in outputs
    ]

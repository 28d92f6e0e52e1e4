"""`generate`: from texts to texts with a trained model. Needs no TensorFlow."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from denoise_jax.config import Config
from denoise_jax.errors import UserError
from denoise_jax.generation.prompts import PromptError, encode_prompt, generate_ids
from denoise_jax.runs.load_model import LoadedModel, load_model
from denoise_jax.validation import validated
from denoise_jax.vocabulary.base import MASK


class GeneratedText(NamedTuple):
    """An output: its text, its score, and whether it ended by itself rather than being truncated."""

    text: str
    score: float
    complete: bool


def generate(
    run: str | Path | LoadedModel,
    prompts: Sequence[str],
    *,
    step: int | None = None,
    batch_size: int = 32,
    allow_no_mask: bool = False,
    progress: Callable[[int, int], object] | None = None,
    **options: object,
) -> list[list[GeneratedText]]:
    """Restores texts with `<mask>` or, with a fine-tuned or imported model, answers plain prompts.

        generate("runs/quickstart", ["We the <mask> of the United States"], num_beams=4)[0][0].text

    Args:
      run: folder of a run or of a checkpoint, or a model from `load_model`.
      prompts: texts. A mask replaces any number of words.
      step: checkpoint to load; None: the newest.
      batch_size: prompts per batch.
      allow_no_mask: accept prompts without `<mask>` even if the model has only been trained to denoise.
      progress: called with (done, total) prompts after each batch.
      options: fields of GenerationConfig, which override those of the run.

    Returns:
      For each prompt its `num_return_sequences` outputs, best first.

    Raises:
      PromptError: a prompt that is empty, lacks a mask, or is longer than the texts of the training data
        (with a fine-tuned or imported model: than the model's positions).
      CheckpointError: no such checkpoint, or a damaged one.
      UserError: options that are invalid or do not fit the model.
    """
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} must be at least 1")
    for index, prompt in enumerate(prompts):
        if not prompt.strip():
            raise PromptError(index, "is empty")
    model = run if isinstance(run, LoadedModel) else load_model(run, step)
    config = model.config
    if _only_denoises(config) and not allow_no_mask:
        _check_masks(prompts)
    generation = validated(lambda: config.generation.replace(**options), "generation: ")
    prompt_ids = [encode_prompt(model.vocabulary, prompt, generation) for prompt in prompts]
    limit = config.data.max_chunk_length if _only_denoises(config) else config.model.max_positions
    for index, ids in enumerate(prompt_ids):
        if len(ids) > limit:
            raise PromptError(index, f"has {len(ids)} tokens; the model takes at most {limit}: shorten it")
    outputs = generate_ids(model, prompt_ids, generation, batch_size=batch_size, progress=progress)
    return [
        [GeneratedText(model.vocabulary.decode(ids), score, complete) for ids, score, complete in of_prompt]
        for of_prompt in outputs
    ]


def _only_denoises(config: Config) -> bool:
    """Whether the model is known to have been trained on noise alone.

    Imported and warm-started models may have been trained on anything.
    """
    return config.data.task is not None and config.training.init_from is None


def _check_masks(prompts: Sequence[str]) -> None:
    for index, prompt in enumerate(prompts):
        if MASK not in prompt:
            raise PromptError(
                index,
                f"has no {MASK}, so there is nothing to fill in: put {MASK} where words are missing, "
                "or set allow_no_mask (--allow-no-mask)",
            )

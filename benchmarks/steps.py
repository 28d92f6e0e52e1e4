"""A train step of ours and of transformers on the same random tokens, for the benchmarks of the step.

Imported in the peer's environment too; each function imports what it needs.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from peers import Shape, bart_config

ROOT = Path(__file__).parents[1]


def random_tokens(shape: Shape, rows: int, length: int):
    """int32 [2, rows, length]: source and target tokens, the same in both libraries."""
    import numpy as np

    return np.random.default_rng(0).integers(4, shape.vocabulary, (2, rows, length)).astype(np.int32)


def our_step(
    shape: Shape, rows: int, length: int, *, documents: int = 1, attention: str = "auto", **model
) -> tuple[Callable, float]:
    """A function that takes a step and returns the loss, still on the device; and the FLOPs of a step.

    Args:
      documents: packed in each row, of equal length.
      attention: `parallel.attention`.
      model: settings of `model` beside the shape.
    """
    sys.path.insert(0, str(ROOT))
    from denoise_jax.parallel.memory import keep_freed_memory

    keep_freed_memory()  # as `train` does
    import jax
    import numpy as np

    from denoise_jax.config import Config, DataConfig, ModelConfig, ParallelConfig, TrainingConfig
    from denoise_jax.model.flops import training_flops
    from denoise_jax.parallel.mesh import make_mesh
    from denoise_jax.training.optimizer import make_optimizer
    from denoise_jax.training.state import abstract_state, create_state
    from denoise_jax.training.step import make_train_step

    size = {
        "vocab_size": shape.vocabulary,
        "embed_dim": shape.width,
        "num_heads": shape.heads,
        "ffn_dim": shape.ffn,
        "num_encoder_layers": shape.layers,
        "num_decoder_layers": shape.layers,
        "max_positions": max(length, 1024),
    }
    config = Config(
        name="step",
        model=ModelConfig(**{**size, "scan_layers": False, "remat": "none", **model}),
        data=DataConfig(vocabulary="none", batch_size=rows, input_length=length, target_length=length),
        training=TrainingConfig(num_steps=100_000),
        parallel=ParallelConfig(attention=attention),
    )
    mesh, optimizer = make_mesh(config.parallel), make_optimizer(config.optimizer, 100_000)
    step = make_train_step(config, optimizer, mesh, abstract_state(config, optimizer, mesh))
    source, target = random_tokens(shape, rows, length)
    document, position = np.divmod(np.arange(length, dtype=np.int32), -(-length // documents))
    segments, positions = (np.broadcast_to(row, source.shape) for row in (document + 1, position))
    shifted = np.where(positions == 0, 3, np.roll(target, 1, axis=1))
    batch = jax.device_put(
        {
            "encoder_input_tokens": source,
            "encoder_segment_ids": segments,
            "encoder_positions": positions,
            "decoder_input_tokens": shifted,
            "decoder_segment_ids": segments,
            "decoder_positions": positions,
            "decoder_target_tokens": target,
            "decoder_target_kind": np.ones_like(target),
        }
    )
    states = [create_state(config, optimizer, mesh)]

    def run() -> jax.Array:
        state, metrics = step(states.pop(), batch)
        states.append(state)
        return metrics["loss"] / metrics["tokens"]

    return run, training_flops(config)


def transformers_step(
    shape: Shape,
    rows: int,
    length: int,
    dtype: str,
    *,
    device: str = "cpu",
    compiled: bool = False,
    **options,
) -> Callable:
    """A function that takes a step of AdamW with clipping and returns the loss, still on the device.

    Args:
      options: of transformers.BartConfig, beside the shape and dropout 0.1.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    config = bart_config(shape, **{"dropout": 0.1, **options})
    model = transformers.BartForConditionalGeneration(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, fused=True)
    source, target = (torch.tensor(x).long().to(device) for x in random_tokens(shape, rows, length))
    forward = torch.compile(model) if compiled else model

    def run() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = forward(input_ids=source, labels=target).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        return loss.detach()

    return run

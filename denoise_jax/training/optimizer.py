"""Optimizer and learning-rate schedule, from optax."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from denoise_jax.config import OptimizerConfig
from denoise_jax.parallel.sharding import leaf_name

_DECAYED = ("kernel", "tokens", "positions")  # matrices; norms and biases are not decayed


def make_schedule(config: OptimizerConfig, num_steps: int) -> Callable:
    """Learning rate of update n, counted from 0: linear warm-up to the peak, then decay to `num_steps`."""
    peak, warmup = config.learning_rate, config.warmup_steps
    remaining = max(num_steps - warmup, 1)
    after = {
        "polynomial": optax.polynomial_schedule(
            peak, config.final_learning_rate, config.polynomial_power, remaining
        ),
        "cosine": optax.cosine_decay_schedule(peak, remaining, alpha=config.final_learning_rate / peak),
        # Vaswani et al. 2017: decays as 1/sqrt(n), continuous with the end of the warm-up.
        "inverse_sqrt": lambda step: peak / jnp.sqrt(1 + jnp.asarray(step, jnp.float32) / max(warmup, 1)),
        "constant": optax.constant_schedule(peak),
    }[config.schedule]
    if not warmup:
        return after
    # Update n uses (n + 1) / warmup of the peak, so that the first update is not a no-op.
    rise = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Clipping, then AdamW (Loshchilov & Hutter 2019) or Adafactor (Shazeer & Stern 2018)."""
    schedule = make_schedule(config, num_steps)
    clip = optax.identity() if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm)
    if config.name == "adamw":
        update = optax.adamw(
            schedule,
            config.b1,
            config.b2,
            config.eps,
            mu_dtype=config.first_moment_dtype,
            weight_decay=config.weight_decay,
            mask=decay_mask,
        )
    else:
        # optax.adafactor applies its own decay after the learning rate: 0.01 would be 1% per step.
        update = optax.chain(
            optax.adafactor(learning_rate=None, multiply_by_parameter_scale=False),
            optax.scale(-1.0),  # without a learning rate it already returns a descent direction
            optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
            optax.scale_by_learning_rate(schedule),
        )
    return _with_standard_promotion(optax.chain(clip, update))


def decay_mask(params):
    """Tree of bools: True for the leaves that weight decay applies to."""
    return jax.tree.map_with_path(lambda path, _: leaf_name(path).rsplit("/", 1)[-1] in _DECAYED, params)


def _with_standard_promotion(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """Allows what optax needs (floats to integer powers) under strict dtype promotion, as in our tests."""

    def update(*arguments):
        with jax.numpy_dtype_promotion("standard"):
            return transformation.update(*arguments)

    return optax.GradientTransformation(transformation.init, update)

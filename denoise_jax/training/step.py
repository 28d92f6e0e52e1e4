"""The train step: a pure function of a state and a batch, jitted over a mesh."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from denoise_jax.config import Config
from denoise_jax.model.batch import BATCH, TARGETS
from denoise_jax.model.transformer import bind_params, vocabulary_logits
from denoise_jax.parallel.mesh import BATCH_AXES
from denoise_jax.parallel.placement import MeshPlacement
from denoise_jax.training.blocked_loss import sum_over_blocks
from denoise_jax.training.log_interval import MUST_BE_FINITE
from denoise_jax.training.loss import training_sums
from denoise_jax.training.state import State


def make_train_step(
    config: Config, optimizer: optax.GradientTransformation, mesh: Mesh, target: State
) -> Callable:
    """Jitted (state, batch) → (state, metrics); the memory of the old state is donated.

    The gradient is that of the mean objective over all target tokens of the batch: sums are accumulated over
    microbatches and divided once, so that accumulation changes memory use and nothing else.

    Args:
      target: the state's shapes and shardings (`abstract_state`).

    Returns:
      A function whose metrics are float32 scalars: the sums of `training_sums`; `grad_norm`, before clipping;
      and `update_norm`, the norm of the change of the parameters. With `training.nonfinite` "skip", also
      `skipped`, 1 if one of them is not finite and the parameters are unchanged.
    """
    microbatches = config.training.accumulation_steps
    placement = MeshPlacement(mesh, config.parallel)

    gradient = jax.grad(_make_objective(config, placement), has_aux=True)

    def accumulate(params, batch, key):
        if microbatches == 1:
            return gradient(params, batch, key)

        def add(total, index_and_part):
            index, part = index_and_part
            result = gradient(params, part, None if key is None else jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, total, result), None

        parts = {name: _split(rows, microbatches, mesh) for name, rows in batch.items()}
        zeros = jax.tree.map(
            jnp.zeros_like, jax.eval_shape(gradient, params, {k: v[0] for k, v in parts.items()}, key)
        )
        return jax.lax.scan(add, zeros, (jnp.arange(microbatches), parts))[0]

    def step(state: State, batch):
        key = _dropout_key(config, state)
        gradients, sums = accumulate(state["params"], batch, key)
        gradients = jax.tree.map(lambda g: g / jnp.maximum(sums["tokens"], 1), gradients)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        new_state = {
            "params": params,
            "opt_state": opt_state,
            "step": state["step"] + 1,
            "key": state["key"],
        }
        # A norm of `updates` would take a second pass over the optimizer state.
        change = jax.tree.map(jnp.subtract, params, state["params"])
        norms = {"grad_norm": optax.tree.norm(gradients), "update_norm": optax.tree.norm(change)}
        metrics = {**sums, **norms}
        if config.training.nonfinite == "skip":
            new_state, metrics = _skip_if_not_finite(state, new_state, metrics)
        return new_state, metrics

    state_shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    rows = NamedSharding(mesh, P(BATCH_AXES))
    return jax.jit(
        step,
        in_shardings=(state_shardings, dict.fromkeys(BATCH, rows)),
        out_shardings=(state_shardings, NamedSharding(mesh, P())),
        donate_argnums=0,
        compiler_options=_compiler_options(mesh),
    )


def _make_objective(config: Config, placement: MeshPlacement) -> Callable:
    """(params, batch, dropout key) → the objective summed over the batch, and sums for the log."""
    columns = config.model.num_classes or config.model.vocab_size

    def objective(params, batch, key):
        model = bind_params(config.model, params, placement)
        if config.loss.blocks == 1:
            logits_BTV = model(batch, dropout_key=key, placement=placement)
            return training_sums(logits_BTV, batch, config.loss, columns)
        hidden_BTD = model.hidden(batch, dropout_key=key, placement=placement)
        targets = {name: batch[name] for name in TARGETS}
        return sum_over_blocks(
            sums_of_block, model.output_matrix, hidden_BTD, targets, config.loss.blocks, placement
        )

    def sums_of_block(matrix, hidden_BTD, targets):
        logits_BTV = vocabulary_logits(config.model, matrix, hidden_BTD)
        return training_sums(logits_BTV, targets, config.loss, columns)

    return objective


def _compiler_options(mesh: Mesh) -> dict[str, bool] | None:
    """Options of XLA that differ from its own defaults on this platform.

    On TPUs, collectives of whole arrays instead of products cut into pieces that wait for one another. By the
    compiler's estimates (`denoise-jax plan`), pieces make BART-large's step on two slices v5e:4x4 take 293 ms
    instead of 259, and send nearly a GB between them. On GPUs, cuBLAS for all products: searching for Triton
    kernels makes BART-large compile in 91 s instead of 21, and its step take 94 ms instead of 91 (H200).
    """
    return {
        "tpu": {
            "xla_tpu_enable_windowed_einsum_for_all_gather": False,
            "xla_tpu_enable_windowed_einsum_for_reduce_scatter": False,
        },
        "gpu": {"xla_gpu_enable_triton_gemm": False},
    }.get(mesh.devices.flat[0].platform)


def _skip_if_not_finite(state: State, new_state: State, metrics: dict) -> tuple[State, dict]:
    """The new state, with the old parameters and optimizer state if its update is not finite."""
    finite = jnp.all(jnp.isfinite(jnp.stack([metrics[name] for name in MUST_BE_FINITE])))
    kept = {
        part: jax.tree.map(lambda new, old: jnp.where(finite, new, old), new_state[part], state[part])
        for part in ("params", "opt_state")
    }
    return {**new_state, **kept}, {**metrics, "skipped": 1 - finite.astype(jnp.float32)}


def _dropout_key(config: Config, state: State) -> jax.Array | None:
    """A key from the run's key and the step, so that a resumed run draws the same; None without dropout."""
    model = config.model
    rates = (
        model.dropout,
        model.attention_dropout,
        model.activation_dropout,
        model.encoder_layer_drop,
        model.decoder_layer_drop,
        model.classifier_dropout,
    )
    if not any(rates):
        return None
    return jax.random.fold_in(jax.random.wrap_key_data(state["key"]), state["step"])


def _split(rows: jax.Array, parts: int, mesh: Mesh) -> jax.Array:
    """[B, ...] → [parts, B / parts, ...], each part sharded over all devices that share the batch."""
    strided = rows.reshape(rows.shape[0] // parts, parts, *rows.shape[1:]).swapaxes(0, 1)
    return jax.lax.with_sharding_constraint(strided, NamedSharding(mesh, P(None, BATCH_AXES)))

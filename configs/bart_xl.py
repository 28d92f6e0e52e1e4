"""BART in a size that one chip cannot hold: 24+24 layers of width 2048, 2.9 B parameters.

Command:   denoise-jax train bart_xl --workdir RUN --data.task TASK --data.vocabulary FOLDER
Hardware:  meant for a TPU v5e-256 or v5p-64: the train state, 35 GB, is sharded over the 16 chips of `fsdp`.
Result:    not yet run.
"""

from denoise_jax.config import Config

from . import bart_base


def config() -> Config:
    """bart_base, wider and deeper, with heads of 128, which fill a TPU's matrix unit."""
    size = {
        "embed_dim": 2048,
        "num_heads": 16,
        "ffn_dim": 8192,
        "num_encoder_layers": 24,
        "num_decoder_layers": 24,
    }
    return bart_base.config().replace(
        name="bart_xl",
        model={**size, "scan_layers": True, "remat": "full"},
        parallel={"fsdp": 16},
        optimizer={"learning_rate": 2e-4},
    )

"""A modern encoder-decoder of BART-base's size: 138 M parameters with a 50k vocabulary.

Command:   denoise-jax train modern_base --workdir RUN --data.task TASK --data.vocabulary FOLDER
Hardware:  as bart_base.
Result:    not yet run.
"""

from configs import bart_base
from denoise_jax.config import Config


def config() -> Config:
    """bart_base but for the model's architecture, so that the two compare.

    Pre-norm RMSNorm, rotary positions, a gated feed-forward and no biases. The three matrices of the gated
    feed-forward are two thirds as wide as BART's two: as many parameters (Shazeer 2020).
    """
    architecture = {
        "norm_position": "pre",
        "norm": "rms",
        "embedding_norm": False,
        "positions": "rotary",
        "gated_ffn": True,
        "activation": "silu",
        "ffn_dim": 2048,
        "use_bias": False,
    }
    return bart_base.config().replace(name="modern_base", model=architecture)

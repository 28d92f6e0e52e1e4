"""A modern encoder-decoder the size of BART-base: 138 M parameters with a 50k vocabulary.

Command:   denoise-jax train modern_base --workdir RUN --data.task TASK --data.vocabulary FOLDER
Hardware:  as bart_base.
Result:    not yet run.
"""

from denoise_jax.config import Config

from . import bart_base


def config() -> Config:
    """bart_base with another architecture and nothing else changed, for comparison.

    Pre-norm RMSNorm, rotary positions, gated feed-forward layers and no biases. The gated layers are two
    thirds as wide as BART's, so that their three matrices have as many parameters (Shazeer 2020).
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

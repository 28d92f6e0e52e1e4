"""mBART-large (cc25): 12+12 layers of width 1024, 611 M parameters with its vocabulary of 250k pieces.

Command:   denoise-jax train mbart_large --workdir RUN --data.task TASK --data.vocabulary FOLDER
Hardware:  meant for a TPU v5e-256 or v5p-64, with 8 rows per chip.
Result:    not yet run.
"""

from denoise_jax.config import Config

from . import bart_large


def config() -> Config:
    """bart_large with mBART's normalisation, embedding scale and optimizer (Liu et al. 2020, section 2.2).

    The paper lowers dropout to 0.05 and then 0 during training; here it stays constant.
    """
    return bart_large.config().replace(
        name="mbart_large",
        model={"norm_position": "pre", "scale_embedding": True},
        optimizer={"b2": 0.98},
    )

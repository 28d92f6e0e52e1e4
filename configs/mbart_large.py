"""mBART-large (cc25): 12+12 layers of width 1024, 611 M parameters with its vocabulary of 250k pieces.

Command:   denoise-jax train mbart_large --workdir RUN --data.task TASK --data.vocabulary FOLDER
Hardware:  written for a TPU v5e-256 or v5p-64; 8 rows a chip.
Result:    not yet run.
"""

from configs import bart_large
from denoise_jax.config import Config


def config() -> Config:
    """bart_large with mBART's norms and embeddings, and its optimizer (Liu et al. 2020, section 2.2).

    The paper lowers the dropout to 0.05 and 0 in the course of the run; here it stays as it is.
    """
    return bart_large.config().replace(
        name="mbart_large",
        model={"norm_position": "pre", "scale_embedding": True},
        optimizer={"b2": 0.98},
    )

"""BART-large: 12+12 layers of width 1024, 406 M parameters with a 50k vocabulary.

Command:   denoise-jax train bart_large --workdir RUN --data.task TASK --data.vocabulary FOLDER
Hardware:  meant for a TPU v5e-256 or v5p-64, with 8 to 16 rows per chip. For 8 rows of 512 + 512 tokens on a
           v5e chip, `--model.scan-layers False --model.remat none` should be a sixth faster, but takes seven
           times as long to compile.
Result:    not yet run. `denoise-jax plan` estimates 44 to 51 % MFU on v5e: see docs/benchmarks.md.
"""

from denoise_jax.config import Config

from . import bart_base


def config() -> Config:
    """bart_base in the large size. Scanning and rematerialising layers lets 16 rows fit on a v5e chip."""
    size = {
        "embed_dim": 1024,
        "num_heads": 16,
        "ffn_dim": 4096,
        "num_encoder_layers": 12,
        "num_decoder_layers": 12,
    }
    return bart_base.config().replace(name="bart_large", model={**size, "scan_layers": True, "remat": "full"})

"""Denoising pretraining of encoder-decoders: SeqIO noise, Flax models, one sharded JAX step.

The public functions are imported when first used, so that `import denoise_jax` loads no framework.
"""

import importlib
import os

# etils reads gs:// through gcsfs, and not through TensorFlow where that is installed: it decides once, at
# the first path.
os.environ.setdefault("EPATH_USE_TF", "false")

__version__ = "0.2.0"

_MODULES = {
    "Config": "denoise_jax.config",
    "GenerationConfig": "denoise_jax.config",
    "corrupt": "denoise_jax.inspection.examples",
    "evaluate": "denoise_jax.evaluation.evaluate",
    "export_folder": "denoise_jax.interop.export_folder",
    "generate": "denoise_jax.generation.generate",
    "import_folder": "denoise_jax.interop.import_folder",
    "list_checkpoints": "denoise_jax.runs.list_runs",
    "list_runs": "denoise_jax.runs.list_runs",
    "load_config": "denoise_jax.named_configs",
    "load_model": "denoise_jax.runs.load_model",
    "load_vocabulary": "denoise_jax.vocabulary.load",
    "predict": "denoise_jax.evaluation.predict",
    "train": "denoise_jax.training.train",
    "train_vocabulary": "denoise_jax.data.train_vocabulary",
}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})

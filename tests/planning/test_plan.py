"""Plans of small models, compiled for real TPU topologies by libtpu."""

import dataclasses
import json
import re

import pytest

from configs import bart_base
from denoise_jax.errors import ConfigError
from denoise_jax.planning import plan as planning
from denoise_jax.planning import report, sweep
from denoise_jax.planning.topologies import chip_of_topology, topology_devices

LENGTH, VOCABULARY = 384, 8192


def _config(**changes):
    """2+2 layers, 4 rows per chip of v5e:2x2; no width equals the length of the rows."""
    size = {"embed_dim": 256, "num_heads": 4, "ffn_dim": 1024, "vocab_size": VOCABULARY}
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 2, "scan_layers": True, "remat": "full"}
    data = {"batch_size": 16, "input_length": LENGTH, "target_length": LENGTH, "shards": 1}
    return bart_base.config().replace(model={**size, **layers}, data=data, **changes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5e:16x32", "TPU v5e slices are 1x1, 2x2"),  # would abort the process
        ("v5e:3x3", "TPU v5e slices are"),
        ("v5p:4x4", "give 3 sizes, as in v5p:4x4x4"),
        ("v6x:2x2", "v6e"),
        ("v5e", "give 2 sizes"),
    ],
)
def test_names_that_are_no_topology_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        chip_of_topology(name)


class TestWithLibtpu:
    """Skipped where libtpu is not installed."""

    @pytest.fixture(autouse=True)
    def _libtpu(self):
        pytest.importorskip("libtpu", reason="`make setup-tpu` installs it")

    def test_what_libtpu_refuses_is_reported_by_name(self):
        with pytest.raises(ConfigError, match="'v5p:3x5x7' with 1 slice.*not divisible"):
            topology_devices("v5p:3x5x7")

    @pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x2"])
    def test_a_small_step(self, topology, monkeypatch):
        """It fits; scores and logits are not stored or gathered; parameters and gradients are sharded."""
        texts = []
        parse = planning.hlo.parse
        monkeypatch.setattr(planning.hlo, "parse", lambda text: texts.append(text) or parse(text))
        made = planning.plan(_config(), topology)
        assert made.fits
        assert sum(made.memory.values()) < 0.5 * 2**30
        # Without the recomputation of the layers, and of the kernel's own scores.
        assert made.model_flops < made.hardware_flops < 1.5 * made.model_flops
        assert 0 < made.roofline_seconds < made.step_seconds
        assert 0.05 < made.mfu < 0.6
        assert not made.warnings
        kinds = {row.kind for row in made.collectives}
        assert kinds <= {"all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"}
        assert {row.axes for row in made.collectives} == {("data",)}
        (text,) = texts
        assert "attention_dropout_backward" in text
        assert not re.search(rf"f32\[(\d+,)*{LENGTH},{LENGTH}\]", text), "scores are written to memory"
        gathers = re.findall(r"= \(?(\w+\[[\d,]*\]).* all-gather(?:-start)?\(", text)
        assert gathers
        assert not [g for g in gathers if f"{LENGTH},{VOCABULARY}" in g], "logits are gathered"

    def test_a_plan_survives_json_and_is_described(self):
        made = planning.plan(_config(parallel={"fsdp": 2}), "v5e:2x2", slices=2)
        assert sweep.plan_from_json(json.dumps(dataclasses.asdict(made))) == made
        crossing = {row.kind for row in made.collectives if "slices" in row.axes}
        assert crossing == {"all-gather", "all-reduce"}, "no pieces of products"
        text = report.describe(made, data_rate=1.0)
        assert "8 chips, mesh data 4 × fsdp 2 × tensor 1, 2 rows per chip" in text
        assert "0% of that" in text

    def test_what_does_not_fit_says_how_much_it_needs(self):
        logits_of_25_GB = _config().replace(model={"vocab_size": 2_000_000})
        made = planning.plan(logits_of_25_GB, "v5e:1x1")
        assert not made.fits
        assert made.memory["needed"] > made.memory_limit
        assert "does not fit" in report.describe(made)

    def test_mistakes_are_found_before_compiling(self):
        with pytest.raises(ConfigError, match="model.vocab_size is not set"):
            planning.plan(bart_base.config(), "v5e:2x2")
        with pytest.raises(ConfigError, match="16 rows cannot be split evenly over 32 devices"):
            planning.plan(_config(), "v5e:4x8")

    def test_a_sweep_goes_on_from_its_results_and_recommends_the_fastest_that_fits(self, tmp_path):
        config = _config().replace(data={"batch_size": 32})
        results = tmp_path / "plans" / "results.jsonl"
        tried = sweep.candidates(config, "v5e:2x2")
        assert {(c.rows, c.fsdp) for c in tried} == {(rows, fsdp) for rows in (4, 8) for fsdp in (1, 4)}
        made = planning.plan(tried[0].config(config, 4), "v5e:2x2")
        for index, candidate in enumerate(tried):
            fits = candidate.rows == 4
            known = dataclasses.replace(made, fits=fits, tokens_per_second=100.0 + index)
            sweep._append(results, config, "v5e:2x2", 1, candidate, known)
        found = sweep.sweep(config, "v5e:2x2", results)
        assert len(found) == len(tried) == len(results.read_text().splitlines()), "nothing was compiled"
        speeds = [plan.tokens_per_second for _, plan in found if plan.fits]
        assert speeds == sorted(speeds, reverse=True)
        assert [plan.fits for _, plan in found] == [True] * len(speeds) + [False] * len(speeds)

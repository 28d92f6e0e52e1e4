"""Every preset on the same texts."""

from denoise_jax.corruption.presets import PRESETS
from denoise_jax.inspection import comparison
from denoise_jax.inspection.comparison import compare_presets
from denoise_jax.inspection.examples import corrupt
from denoise_jax.vocabulary.training import train_sentencepiece

TEXTS = ["We shall build new roads. Let us go on.", "The union is strong!"]


def test_every_preset_corrupts_every_text():
    found = compare_presets(TEXTS, seed=4)
    assert list(found.examples) == list(PRESETS)
    assert found.skipped == {}
    for name in ("none", "bart_paper"):
        assert found.examples[name] == [corrupt(text, name, seed=4) for text in TEXTS]


def test_presets_that_the_vocabulary_cannot_serve_are_skipped(speeches, tmp_path, monkeypatch):
    few = {name: PRESETS[name] for name in ("bart_paper", "t5_span")}
    monkeypatch.setattr(comparison, "PRESETS", few)
    vocabulary = train_sentencepiece(speeches[:1], tmp_path / "none", size=300, sentinels=0)
    found = compare_presets(TEXTS, vocabulary=vocabulary)
    assert found.skipped["t5_span"].startswith("a text of max_tokens=")
    assert list(found.examples) == ["bart_paper"]

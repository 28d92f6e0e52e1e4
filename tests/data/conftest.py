"""Reading a task as the loader does, and tokenizers made as those of BART and mBART are."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def read_task() -> Callable[..., list[dict]]:
    """read_task(task): its examples, in NumPy, of `limit` and `input_limit` tokens at most."""
    from denoise_jax.data import preprocessors, registry

    def run(task, *, limit=40, input_limit=80, seed=0, num_shards=1, **how):
        dataset = registry.open_shard(
            task,
            "train",
            lengths={"inputs": input_limit, "targets": limit},
            num_shards=num_shards,
            seed=seed,
            training=False,
            how=preprocessors.Reading(**how),
        )
        return list(dataset.as_numpy_iterator())

    return run


def _byte_level(texts: list[str]):
    """As BART's: byte-level BPE, <s> <pad> </s> <unk> first and <mask> last, <s> text </s>."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=599,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def _unigram(texts: list[str]):
    """As mBART's: Unigram over ▁ for spaces, text </s> language."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "en_XX", "ro_RO", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s> en_XX",
        pair="$A $B </s> en_XX",
        special_tokens=[("</s>", 2), ("en_XX", 4)],
    )
    return tokenizer


def _folder(folder: Path, tokenizer, model_type: str) -> Path:
    """A folder of Hugging Face's with this tokenizer."""
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(f'{{"model_type": "{model_type}", "eos_token_id": 2}}')
    return folder


def _imported(source: Path, folder: Path) -> Path:
    """A vocabulary folder made from one of Hugging Face's."""
    from denoise_jax.interop.tokenizer_import import from_huggingface

    folder.mkdir()
    for name, content in from_huggingface(source).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def bart_source(tmp_path_factory, speeches) -> Path:
    """A folder of Hugging Face's with a tokenizer as BART's, of 600 tokens."""
    return _folder(tmp_path_factory.mktemp("hf") / "bart", _byte_level(speeches), "bart")


@pytest.fixture(scope="session")
def bart_folder(bart_source, tmp_path_factory) -> Path:
    """The vocabulary imported from `bart_source`."""
    return _imported(bart_source, tmp_path_factory.mktemp("imported") / "bart")


@pytest.fixture(scope="session")
def mbart_folder(tmp_path_factory, speeches) -> Path:
    """A vocabulary imported from a tokenizer as mBART's, with en_XX and ro_RO."""
    source = _folder(tmp_path_factory.mktemp("hf") / "mbart", _unigram(speeches), "mbart")
    return _imported(source, tmp_path_factory.mktemp("imported") / "mbart")

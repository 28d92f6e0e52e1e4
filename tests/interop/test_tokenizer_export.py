"""A SentencePiece vocabulary exported as tokenizer.json gives the same ids, then </s>, and the same text."""

import json
import unicodedata

import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from denoise_jax.data import registry
from denoise_jax.errors import DataError
from denoise_jax.interop.tokenizer_export import tokenizer_files
from denoise_jax.vocabulary.base import EOS_ID, UNK_ID
from denoise_jax.vocabulary.load import load_vocabulary
from denoise_jax.vocabulary.training import train_sentencepiece
from tests.interop.helpers import import_tokenizer

ODD = [
    *(
        "",
        " ",
        "  a  b ",
        "\ta\nb\r\nc ",
        "x\u00a0y",
        "\u200bHello a\u200bb",
        "\ufeffBOM",
        "\u2028x",
        "a\x00b\x01",
    ),
    *("▁", "▁a", " ▁ a ▁", "a▁b▁ "),
    *(
        "naïve café",
        "cafe\u0301",
        "ﬁne ﬀ ①② ½ ² … ㍿",
        "Ａｂｃ",
        "😀 👨‍👩‍👧 🇩🇪",
        "国情咨文 각 ไทย हिन्दी",
        "مُحَمَّد",
    ),
]


@pytest.fixture(
    scope="module",
    params=[("unigram", False), ("unigram", True), ("bpe", False), ("bpe", True)],
    ids=["unigram", "unigram-bytes", "bpe", "bpe-bytes"],
)
def both(request, tmp_path_factory, speeches):
    """(vocabulary, the tokenizer of its tokenizer.json)."""
    model_type, byte_fallback = request.param
    own = train_sentencepiece(
        speeches,
        tmp_path_factory.mktemp("both") / "vocabulary",
        size=1000,
        model_type=model_type,
        byte_fallback=byte_fallback,
        control_symbols=["en_XX"],
    )
    return own, Tokenizer.from_str(tokenizer_files(own)["tokenizer.json"].decode())


def check(both, texts):
    own, theirs = both
    for text in texts:
        ids = own.encode(text)
        assert theirs.encode(text).ids == [*ids, EOS_ID], ascii(text)
        if UNK_ID not in ids:
            assert theirs.decode([*ids, EOS_ID]) == own.decode(ids), ascii(text)


def test_every_line_of_the_test_split_has_the_same_ids(both):
    """Lines, since SentencePiece's float32 sums are too coarse for speeches: see tokenizer_export."""
    lines = [
        line
        for text in registry.texts(registry.find_task("quickstart", ["tasks"]), "test")
        for line in text.splitlines()
    ]
    assert len(lines) > 1000
    check(both, lines)


def test_bpe_of_complete_speeches_has_the_same_ids(speeches, tmp_path):
    own = train_sentencepiece(speeches, tmp_path / "bpe", size=1000, model_type="bpe")
    check((own, Tokenizer.from_str(tokenizer_files(own)["tokenizer.json"].decode())), speeches)


def test_odd_spaces_and_characters_have_the_same_ids(both):
    check(both, ODD)


def test_random_characters_have_the_same_ids(both):
    """From all of Unicode except marks, which join the previous letter; the text is in NFC."""
    draws = np.random.default_rng(0)
    ranges = ((0x20, 0x7F), (0x20, 0x250), (0x250, 0x3000), (0x3000, 0xD800), (0xE000, 0x30000), (0x20, 0x21))
    texts = []
    for _ in range(2000):
        picked = draws.integers(len(ranges), size=draws.integers(1, 20))
        characters = (chr(draws.integers(*ranges[index])) for index in picked)
        alone = "".join(c for c in characters if unicodedata.combining(c) == 0 and not _joins(c))
        texts.append(unicodedata.normalize("NFC", alone))
    check(both, texts)


def _joins(character: str) -> bool:
    """Whether a character may join the previous one: marks, Korean letters, halfwidth sound marks."""
    wide = unicodedata.normalize("NFKC", character)
    return any(unicodedata.category(c)[0] == "M" or "\u1100" <= c <= "\u11ff" for c in (character, *wide))


def test_masks_in_a_text_are_encoded_as_in_training(both):
    own, theirs = both
    for text in ("The state of <mask> is <mask>.", "our <mask> children", "<mask>s <mask>"):
        assert theirs.encode(text).ids == [*own.encode_masked(text), EOS_ID]


def test_symbols_keep_their_ids_and_are_left_out_of_text(both):
    own, theirs = both
    for index in own.control_ids:
        assert theirs.token_to_id(own.piece(index)) == index
    assert theirs.decode([3, *own.encode("so be it"), *own.control_ids]) == "so be it"


def test_an_imported_tokenizer_is_exported_byte_for_byte(hf_folder, tmp_path):
    vocabulary = load_vocabulary(import_tokenizer(hf_folder, tmp_path / "vocabulary"))
    assert tokenizer_files(vocabulary) == {"tokenizer.json": (hf_folder / "tokenizer.json").read_bytes()}


def test_models_trained_with_other_options_are_refused(vocabulary_folder, tmp_path):
    proto = sentencepiece_model_pb2.ModelProto.FromString(load_vocabulary(vocabulary_folder).model)
    proto.normalizer_spec.add_dummy_prefix = False
    (tmp_path / "other.model").write_bytes(proto.SerializeToString())
    with pytest.raises(DataError, match="other.model was trained with add_dummy_prefix=False, but only True"):
        tokenizer_files(load_vocabulary(tmp_path / "other.model"))


def test_tokenizer_config_names_the_special_tokens(vocabulary_folder):
    config = json.loads(tokenizer_files(load_vocabulary(vocabulary_folder))["tokenizer_config.json"])
    named = {name.removesuffix("_token"): token for name, token in config.items() if name.endswith("_token")}
    assert named == {"pad": "<pad>", "eos": "</s>", "unk": "<unk>", "bos": "<s>", "mask": "<mask>"}

"""A vocabulary as tokenizer files of Hugging Face, which `AutoTokenizer.from_pretrained` reads.

For tokenizers that came from there these are the original files. For SentencePiece models a tokenizer.json is
written that gives the same ids with </s> behind them, and decodes to the same text. It differs in four
things:

- The name of a symbol in a text (`<mask>`, `[S]`) is that symbol, as everywhere at Hugging Face; here it is
  text.
- Their normalizer takes letters with the marks behind them as one character. Of text that is not in
  Unicode's form NFC it may therefore drop or fail to join marks where SentencePiece does not.
- SentencePiece adds up a Unigram model's scores over the whole text in float32, and beyond some thousands
  of tokens takes the second best of two pieces that are nearly as good. Sentences have the same ids, and
  they are what models are trained on.
- `skip_special_tokens` leaves unknown characters out, where SentencePiece writes ⁇.
"""

import json

from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import EOS_ID, PAD_ID, SPACE, TOKENIZER_FILE, UNK_ID, Vocabulary
from denoise_jax.vocabulary.sentencepiece import SentencePieceVocabulary
from denoise_jax.vocabulary.tokenizers import ORIGINAL_FILES

_UNIGRAM, _BPE = 1, 2  # SentencePiece's numbers of its algorithms
_NORMAL = 1  # and of pieces that are text
# What `denoise-jax vocab` trains, and the steps below assume.
_AS_TRAINED_HERE = {
    ("normalizer_spec", "add_dummy_prefix"): (True,),
    ("normalizer_spec", "remove_extra_whitespaces"): (True,),
    ("normalizer_spec", "escape_whitespaces"): (True,),
    ("trainer_spec", "treat_whitespace_as_suffix"): (False,),
    ("trainer_spec", "split_by_whitespace"): (True,),
    ("trainer_spec", "model_type"): (_UNIGRAM, _BPE),
}


def tokenizer_files(vocabulary: Vocabulary) -> dict[str, bytes]:
    """Hugging Face's tokenizer files, name → content.

    Raises:
      DataError: a SentencePiece model trained with options that `denoise-jax vocab` does not use.
    """
    if not isinstance(vocabulary, SentencePieceVocabulary):
        return {name: content for name, content in vocabulary.files().items() if name in ORIGINAL_FILES}
    tokenizer = _of_sentencepiece(vocabulary)
    named = {
        "pad": PAD_ID,
        "eos": EOS_ID,
        "unk": UNK_ID,
        "bos": vocabulary.bos_id,
        "mask": vocabulary.mask_id,
    }
    config = {
        # The class that takes a tokenizer.json as it is: transformers 5 calls it TokenizersBackend, and
        # knows this name of version 4 too.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{role}_token": vocabulary.piece(index) for role, index in named.items()},
        "clean_up_tokenization_spaces": False,
    }
    return {
        TOKENIZER_FILE: (tokenizer.to_str(pretty=True) + "\n").encode(),
        "tokenizer_config.json": (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode(),
    }


def _of_sentencepiece(vocabulary: SentencePieceVocabulary) -> Tokenizer:
    proto = sentencepiece_model_pb2.ModelProto.FromString(vocabulary.model)
    for (section, option), known in _AS_TRAINED_HERE.items():
        value = getattr(getattr(proto, section), option)
        if value not in known:
            raise DataError(
                f"vocabulary {vocabulary.name} was trained with {option}={value}, and a {TOKENIZER_FILE} can "
                f"be written where that is {' or '.join(map(str, known))} only"
            )
    tokenizer = Tokenizer(_model(proto))
    tokenizer.normalizer = _normalizer(proto.normalizer_spec.precompiled_charsmap)
    # The space before the text itself; what follows a symbol has its own space, or none.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="first")
    if proto.trainer_spec.byte_fallback:
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace(SPACE, " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    symbols = sorted({*vocabulary.control_ids, UNK_ID})
    tokenizer.add_special_tokens(
        [  # as in BART, a mask takes the space before it along
            AddedToken(vocabulary.piece(i), lstrip=i == vocabulary.mask_id, normalized=False, special=True)
            for i in symbols
        ]
    )
    end = vocabulary.piece(EOS_ID)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, EOS_ID)]
    )
    return tokenizer


def _normalizer(character_map: bytes) -> normalizers.Normalizer:
    """SentencePiece's: its table of characters, no space but single ones, none at the end.

    One space at the beginning is left; it becomes the ▁ that SentencePiece puts there.
    """
    steps = [
        normalizers.Replace(Regex(" {2,}"), " "),
        # SentencePiece takes off typed ▁ here as well, and puts its own before one that begins the text.
        normalizers.Replace(Regex(f"[ {SPACE}]+$"), ""),
        normalizers.Replace(Regex(f"^{SPACE}"), 2 * SPACE),
    ]
    return normalizers.Sequence([normalizers.Precompiled(character_map)] * bool(character_map) + steps)


def _model(proto: sentencepiece_model_pb2.ModelProto) -> models.Model:
    """The same pieces under the same ids, with scores, or with the merges that the scores stand for."""
    pieces = [piece.piece for piece in proto.pieces]
    fallback = proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type == _UNIGRAM:
        scores = [piece.score for piece in proto.pieces]
        return models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=UNK_ID, byte_fallback=fallback)
    # SentencePiece joins whichever neighbours make the piece of the highest score.
    text = {piece.piece: piece.score for piece in proto.pieces if piece.type == _NORMAL}
    merges = [
        (-score, cut, piece[:cut], piece[cut:])
        for piece, score in text.items()
        for cut in range(1, len(piece))
        if piece[:cut] in text and piece[cut:] in text
    ]
    return models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[(left, right) for *_, left, right in sorted(merges)],
        unk_token=pieces[UNK_ID],
        fuse_unk=True,
        byte_fallback=fallback,
    )

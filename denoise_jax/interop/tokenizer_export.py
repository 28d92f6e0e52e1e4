"""Converts a vocabulary to Hugging Face tokenizer files, for `AutoTokenizer.from_pretrained`.

Imported tokenizers are exported as their original files. For a SentencePiece model we write a tokenizer.json
that encodes to the same ids, followed by </s>, and decodes to the same text, with four differences:

- The name of a special token in a text (`<mask>`, `[S]`) is encoded as that token, as always in Hugging Face
  tokenizers. SentencePiece encodes it as text.
- The Hugging Face normalizer works on grapheme clusters. In text that is not in Unicode normalization form C
  it may drop combining marks, or not compose them, where SentencePiece does.
- SentencePiece sums the scores of a Unigram model over the whole text in float32; after some thousands of
  tokens it may choose a slightly worse segmentation. Sentences, which models are trained on, do not differ.
- `skip_special_tokens` drops unknown characters, which SentencePiece decodes to ⁇.
"""

import json

from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from denoise_jax.errors import DataError
from denoise_jax.vocabulary.base import EOS_ID, PAD_ID, SPACE, TOKENIZER_FILE, UNK_ID, Vocabulary
from denoise_jax.vocabulary.sentencepiece import SentencePieceVocabulary
from denoise_jax.vocabulary.tokenizers import ORIGINAL_FILES

_UNIGRAM, _BPE = 1, 2  # model_type in SentencePiece's protobuf
_NORMAL = 1  # type of pieces that are text
# The options of `denoise-jax vocab`, which the conversion below assumes.
_REQUIRED_OPTIONS = {
    ("normalizer_spec", "add_dummy_prefix"): (True,),
    ("normalizer_spec", "remove_extra_whitespaces"): (True,),
    ("normalizer_spec", "escape_whitespaces"): (True,),
    ("trainer_spec", "treat_whitespace_as_suffix"): (False,),
    ("trainer_spec", "split_by_whitespace"): (True,),
    ("trainer_spec", "model_type"): (_UNIGRAM, _BPE),
}


def tokenizer_files(vocabulary: Vocabulary) -> dict[str, bytes]:
    """The Hugging Face tokenizer files of a vocabulary, name → content.

    Raises:
      DataError: a SentencePiece model trained with other options than those of `denoise-jax vocab`.
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
        # The class that uses tokenizer.json unchanged. Transformers 5 renamed it to TokenizersBackend, but
        # still accepts the name of version 4.
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
    for (section, option), known in _REQUIRED_OPTIONS.items():
        value = getattr(getattr(proto, section), option)
        if value not in known:
            raise DataError(
                f"vocabulary {vocabulary.name} was trained with {option}={value}, but only "
                f"{' or '.join(map(str, known))} can be exported to {TOKENIZER_FILE}"
            )
    tokenizer = Tokenizer(_model(proto))
    tokenizer.normalizer = _normalizer(proto.normalizer_spec.precompiled_charsmap)
    # Prepends a space to the text, but not to what follows a special token.
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
        [  # as in BART, the mask absorbs a space on its left
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
    """SentencePiece's normalization: its character map, single spaces, no trailing space.

    A leading space stays, and becomes the ▁ that SentencePiece prepends.
    """
    steps = [
        normalizers.Replace(Regex(" {2,}"), " "),
        # SentencePiece also strips a literal ▁ at the end, and prepends its own to one at the beginning.
        normalizers.Replace(Regex(f"[ {SPACE}]+$"), ""),
        normalizers.Replace(Regex(f"^{SPACE}"), 2 * SPACE),
    ]
    return normalizers.Sequence([normalizers.Precompiled(character_map)] * bool(character_map) + steps)


def _model(proto: sentencepiece_model_pb2.ModelProto) -> models.Model:
    """The same pieces with the same ids, and their scores (Unigram) or the equivalent merges (BPE)."""
    pieces = [piece.piece for piece in proto.pieces]
    fallback = proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type == _UNIGRAM:
        scores = [piece.score for piece in proto.pieces]
        return models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=UNK_ID, byte_fallback=fallback)
    # SentencePiece merges the pair of neighbours whose piece has the highest score.
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

"""Sentence splitting in the TensorFlow graph, on text, so that it does not depend on the vocabulary."""

import tensorflow as tf

_BREAK = "\x1e"  # ASCII record separator: marks the end of a sentence; never part of running text
_JOIN = "\x1f"  # ASCII unit separator: replaces a space that must not end a sentence

_CLOSERS = r"""["'”’»)\]]*"""
_OPENERS = r"""["'“‘«(\[¿¡]*"""

# A full stop after these does not end a sentence.
_ABBREVIATIONS = (
    "Mr|Mrs|Ms|Dr|Prof|Rev|Hon|Gen|Gov|Sen|Rep|Lt|Col|Capt|Sgt|Adm|St|Jr|Sr|Messrs|"
    "Vol|Art|Sec|Fig|Eq|vs|cf|viz|al|etc|e\\.g|i\\.e|approx|"
    "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec"
)

# An initial, as in J. Q. Adams, but not I, since the pronoun may end a sentence. Applied twice because
# consecutive matches overlap.
_INITIAL = (rf"((?:^|[\s.(\[{_JOIN}])[A-HJ-ZÀ-ÖØ-ÞΑ-ΩА-Я])\.[ \t]+(\p{{Lu}})", rf"\1.{_JOIN}\2")

# Applied in this order. RE2 has no look-ahead, so what follows a sentence is captured and restored.
_REWRITES = (
    (f"[{_BREAK}{_JOIN}]", " "),
    (r"[ \t]*[\r\n\x{2028}\x{2029}]+\s*", _BREAK),
    (rf"\b({_ABBREVIATIONS})\.[ \t]+", rf"\1.{_JOIN}"),
    (r"\b(Nos?)\.[ \t]+(\d)", rf"\1.{_JOIN}\2"),
    _INITIAL,
    _INITIAL,
    (rf"([.!?…؟۔।॥]+{_CLOSERS})[ \t]+({_OPENERS}[\p{{Lu}}\p{{Lo}}\p{{N}}])", rf"\1{_BREAK}\2"),
    (r"([。！？｡．]+[」』”’）】]*)\s*", rf"\1{_BREAK}"),  # no space follows in Chinese and Japanese
    (_JOIN, " "),
)


def split_sentences(text: tf.Tensor) -> tf.Tensor:
    """Sentences of one document.

    A sentence ends at a line break; at `.`, `!`, `?`, `…` and their Arabic and Indic equivalents (with
    closing quotes and brackets), if followed by white space and a capital, a digit or a letter without case;
    and at the full stops of Chinese and Japanese. Common English abbreviations and initials do not
    end a sentence.

    Args:
      text: scalar string, UTF-8.

    Returns:
      string [n], without surrounding white space. No sentence is empty; n = 0 for blank text.
    """
    for pattern, replacement in _REWRITES:
        text = tf.strings.regex_replace(text, pattern, replacement)
    sentences = tf.strings.strip(tf.strings.split(text, _BREAK))
    return tf.boolean_mask(sentences, tf.strings.length(sentences) > 0)

"""Sentence splitting in the TensorFlow graph, on text, so that it does not depend on the vocabulary.

Regular expressions first mark the full stops that end nothing, then put a mark behind every sentence. RE2 has
no look-ahead, so what surrounds a match is captured and restored.
"""

import tensorflow as tf

_BREAK = "\x1e"  # ASCII record separator: marks the end of a sentence; never part of running text
_JOIN = "\x1f"  # ASCII unit separator: follows a full stop that does not end a sentence

_SPACE = r"[\t\p{Zs}]"  # with no-break spaces, which are not in RE2's \s
_ANY_SPACE = r"[\s\p{Zs}]"
_BEFORE = r"(^|[^\p{L}\p{N}])"  # RE2's \b takes é for the end of a word

# „so“, »so«, “so”, «so», « so »: languages differ in which mark of a pair opens.
_CLOSERS = rf"""(?:{_SPACE}?»|["'\p{{Pi}}\p{{Pf}}\p{{Pe}}])"""
_OPENERS = rf"""(?:«{_SPACE}?|["'\p{{Pi}}\p{{Pf}}\p{{Ps}}¿¡])*"""

# A full stop after these does not end a sentence. The last two lines are German.
_ABBREVIATIONS = (
    "Mr|Mrs|Ms|Dr|Prof|Rev|Hon|Gen|Gov|Sen|Rep|Lt|Col|Capt|Sgt|Adm|St|Jr|Sr|Messrs|"
    "Vol|Art|Sec|Fig|Eq|vs|cf|viz|al|etc|approx|"
    "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec|"
    "Hr|Fr|Dipl|Ing|Nr|Str|Abs|Abb|Anm|Aufl|Bd|Hrsg|Hg|Kap|Tel|Mio|Mrd|Okt|Dez|"
    "[Vv]gl|bzw|ca|ggf|[Ee]vtl|inkl|einschl|exkl|zzgl|bzgl|sog|geb|gest"
)
# Nor after these in front of a number: p. 5, No. 7, S. 12, ch. 4.
_COUNTED = "Nos?|[Pp]p?|S|[Cc]h|[Cc]hap|vol|art|sec|fig|ll?|nn?|vv?|c"
# Nor within an abbreviation of several words: e. g., z. B., v. Chr. (a.m. and p.m. may end a sentence).
_LETTERS = rf"(?:([b-oq-zäöü])\.({_SPACE}?(?:\p{{L}}|Chr))|([ap])\.({_SPACE}?[A-Za-ln-z]))"
# Nor after German ordinals: im 19. Jahrhundert, 3. Oktober, 3. 10. 1990.
_ARTICLES = "[AaIi]m|[Vv]om|[Zz]u[mr]|[Bb]eim|[Dd]er|[Dd]ie|[Dd]as|[Dd]es|[Dd]e[mn]|[Bb]is|[Aa]b|[Ss]eit"
_MONTHS = "Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"

# An initial, as in J. Q. Adams, but not I, since the pronoun may end a sentence. Applied twice because
# consecutive matches overlap.
_INITIAL = (
    rf"((?:^|[\s\p{{Zs}}.(\[{_BREAK}])[A-HJ-ZÀ-ÖØ-ÞΑ-ΩА-Я])\.({_SPACE}+\p{{Lu}})",
    rf"\1.{_JOIN}\2",
)

# Marks that end a sentence if white space and the beginning of another follow.
_SPACED = ".!?…؟۔।॥‼⁇⁈⁉"
# Marks that need no space: Chinese and Japanese, Burmese, Khmer, Ethiopic, Armenian, Mongolian.
_UNSPACED = "。！？｡．။។៕።፧፨։᠃᠉"
_UNSPACED_CLOSERS = r"」』”’»›)）】〕］"
_INSIDE = "》〉"  # a title that ends in one of these marks goes on: 《你好吗？》

# Applied in this order.
_REWRITES = (
    (f"[{_BREAK}{_JOIN}]", " "),
    (rf"{_ANY_SPACE}*(?:[\r\n\x{{85}}\x{{2028}}\x{{2029}}]|^|$){_ANY_SPACE}*", _BREAK),
    (rf"{_BEFORE}({_ABBREVIATIONS})\.", rf"\1\2.{_JOIN}"),
    (rf"{_BEFORE}({_COUNTED})\.({_SPACE}+\p{{Nd}})", rf"\1\2.{_JOIN}\3"),
    (rf"{_BEFORE}{_LETTERS}\.", rf"\1\2\4.{_JOIN}\3\5.{_JOIN}"),
    (rf"{_BEFORE}(\p{{Nd}}{{1,2}})\.({_SPACE}+(?:{_MONTHS}))", rf"\1\2.{_JOIN}\3"),
    (
        rf"{_BEFORE}(\p{{Nd}}{{1,2}})\.({_SPACE}\p{{Nd}}{{1,2}})\.({_SPACE}\p{{Nd}}{{2,4}})",
        rf"\1\2.{_JOIN}\3.{_JOIN}\4",
    ),
    (rf"{_BEFORE}((?:{_ARTICLES}){_SPACE}+\p{{Nd}}{{1,2}})\.", rf"\1\2.{_JOIN}"),
    (r"(\p{Nd}[．։])(\p{Nd})", rf"\1{_JOIN}\2"),  # a decimal or a time
    ("។ល។", f"។{_JOIN}ល។{_JOIN}"),  # Khmer for etc.
    _INITIAL,
    _INITIAL,
    (
        rf"([{_SPACED}]+(?:{_JOIN}?{_CLOSERS}+)?){_SPACE}+({_OPENERS}[\p{{Lu}}\p{{Lt}}\p{{Lo}}\p{{N}}])",
        rf"\1{_BREAK}\2",
    ),
    (
        rf"([{_UNSPACED}]+[{_UNSPACED_CLOSERS}]*){_ANY_SPACE}*"
        rf"([^{_UNSPACED}{_UNSPACED_CLOSERS}{_INSIDE}{_JOIN}\s\p{{Zs}}])",
        rf"\1{_BREAK}\2",
    ),
    (_JOIN, ""),
)


def split_sentences(text: tf.Tensor) -> tf.Tensor:
    """Sentences of one document.

    A sentence ends at a line break; at `.`, `!`, `?`, `…` and their Arabic and Indic equivalents (with
    closing quotes and brackets), if followed by white space and a capital, a digit or a letter without case;
    and at the full stops of Chinese, Japanese, Burmese, Khmer, Ethiopic, Armenian and Mongolian. Common
    English and German abbreviations, initials, and German ordinals and dates do not end a sentence.

    Args:
      text: scalar string, UTF-8.

    Returns:
      string [n], without surrounding white space. No sentence is empty; n = 0 for blank text.
    """
    for pattern, replacement in _REWRITES:
        text = tf.strings.regex_replace(text, pattern, replacement)
    sentences = tf.strings.strip(tf.strings.split(text, _BREAK))
    return tf.boolean_mask(sentences, tf.strings.length(sentences) > 0)

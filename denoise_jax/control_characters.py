"""Escapes characters that a terminal would obey instead of showing."""

import json
import unicodedata

_CATEGORIES = ("Cc", "Cf", "Cs")  # control characters, format characters (text direction), lone surrogates
_JOINERS = "\u200c\u200d\u00ad"  # format characters needed to spell words and emoji


def escape_controls(text: str, keep: str = "\n\t") -> str:
    r"""Replaces control and bidirectional formatting characters by JSON escapes: \u001b for ESC.

    Characters in `keep` stay. Applied to a JSON document, which contains such characters only inside
    strings, it gives an equivalent JSON document.
    """
    return "".join(
        json.dumps(c)[1:-1]
        if unicodedata.category(c) in _CATEGORIES and c not in _JOINERS and c not in keep
        else c
        for c in text
    )

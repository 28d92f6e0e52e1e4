"""Extension of mkdocstrings: puts backticks around tokens such as </s> in docstrings.

Markdown would read them as HTML: `<s>` would strike out the rest of the page.
"""

import re

import griffe

_CODE_OR_TOKEN = re.compile(r"(`[^`]*`)|(</?\w+>)")


class QuoteTokens(griffe.Extension):
    """Rewrites docstrings as they are loaded; code between backticks is left alone."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = _CODE_OR_TOKEN.sub(
                lambda match: match[1] or f"`{match[2]}`", obj.docstring.value
            )

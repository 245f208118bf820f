"""Cleans texts as OpenCLIP does before it tokenizes them."""

import html

import ftfy


def clean(text: str) -> str:
    """Mends mis-decoded characters, resolves HTML entities (twice) and collapses white space.

    Raises:
      ValueError: it is no text, or has halves of characters (lone surrogates).
    """
    if not isinstance(text, str):
        raise ValueError(f"A text must be a str. Received: {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"A text must be valid Unicode. Received: {text[:80]!r}") from error
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())

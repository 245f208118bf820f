"""The sentence around an instruction that CLIP-RT was trained with."""

PUBLISHED = "what motion should the robot arm perform to complete the instruction '{}'?"


_QUOTES = str.maketrans({"‘": "'", "’": "'", "ʼ": "'", "“": '"', "”": '"'})


def apply_prompt(instruction: str, prompt: str = PUBLISHED) -> str:
    """Puts an instruction into the prompt; one that is in it already is returned as it is.

    Args:
      instruction: any text.
      prompt: with ``{}`` once, where the instruction goes; ``{}`` alone adds nothing.

    Raises:
      ValueError: the prompt does not have ``{}`` exactly once.
    """
    before, gap, after = prompt.partition("{}")
    if not gap or "{}" in after:
        raise ValueError(f"prompt must have '{{}}' exactly once. Received: {prompt!r}")
    text, head, tail = _even(instruction), _even(before), _even(after)
    if len(tail) > 1 and tail.endswith("?"):
        text, tail = text.rstrip("? "), tail.rstrip("? ")
    if head and before[-1:].isspace():  # "down" does not begin with "do ".
        head, text = f"{head} ", f"{text} " if text == head else text
    if len(text) >= len(head) + len(tail) and text.startswith(head) and text.endswith(tail):
        return instruction
    return f"{before}{instruction}{after}"


def _even(text: str) -> str:
    """Data sets differ in case, spacing and quotes; the tokenizer evens them out as well."""
    return " ".join(text.translate(_QUOTES).lower().split())

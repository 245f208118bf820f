"""The sentence around an instruction that CLIP-RT was trained with."""

PUBLISHED = "what motion should the robot arm perform to complete the instruction '{}'?"


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
    # Data sets differ in the case and spacing of their texts; the tokenizer evens both out.
    text, head, tail = (part.strip().lower() for part in (instruction, before, after))
    if len(text) >= len(head) + len(tail) and text.startswith(head) and text.endswith(tail):
        return instruction
    return f"{before}{instruction}{after}"

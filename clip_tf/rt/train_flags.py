"""Flags of ``train.py`` that CLIP-RT has no use for. This module needs no TensorFlow."""

from absl import flags

MODEL = "clip_rt"
# Flag -> what CLIP-RT has instead.
OTHERS = {
    "split_file": "examples are held out by their names, or by clip_rt.open_csv.validation_file in gin",
    "image_size": "its images are of the size that its towers take, clip_rt.make_model.name in gin",
    "loss_type": "its loss is over pairs of image and text, and has no types",
}


def check(values: flags.FlagValues) -> None:
    """Refuses such a flag where it was given: whoever gives it believes that it does something.

    Raises:
      ValueError: names the flag.
    """
    if values["model"].value != MODEL:
        return
    for name, instead in OTHERS.items():
        if values[name].present:
            raise ValueError(
                f"--{name} is not for --model={MODEL}: {instead}. Received: {values[name].value!r}"
            )

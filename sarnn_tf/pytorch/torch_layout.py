"""SARNN's variables under the names and in the layouts of the PyTorch originals, both ways.

The table of a model is written once, as torch name -> our variable; loading and exporting read it. A
checkpoint is here a mapping from torch names to arrays: reading and writing the files is another matter.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from core.load_report import LoadReport, compare
from core.named_variables import named_variables
from sarnn_tf.image_modality import IMAGE
from sarnn_tf.layers.conv_stack import BORDER
from sarnn_tf.layers.spatial_softmax import position_grid
from sarnn_tf.networks.attention_stream import AttentionStream
from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn

COMPILED_PREFIX = "_orig_mod."
"""Put before every name by torch.compile."""

_BUFFERS = (r"pos_[xy]", r"pos_xy", r"mean", r"std", r"clip_model\..*")
# Not loaded: grids and CLIP's pixel statistics are computed here, the frozen tower is not part of the model.
_NOT_LOADED = re.compile(
    r"(.+\.)?(pos_encoder\.(\d+\.|ss\.)?|issm\.)(" + "|".join(_BUFFERS) + r")", re.DOTALL
)
_CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32).reshape(1, 3, 1, 1)
_CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32).reshape(1, 3, 1, 1)
_CONV = (2, 3, 1, 0)
_CONV_BACK = (3, 2, 0, 1)


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a torch tensor goes.

    Attributes:
      variable: our name, by ``named_variables``.
      rank: of the torch tensor; it tells the layout: convolutions and transposed ones [x, y, h, w] to
        [h, w, y, x], linear ones [out, in] to [in, out], biases as they are.
    """

    variable: str
    rank: int

    def from_torch(self, value: np.ndarray) -> np.ndarray:
        """A torch array in our layout."""
        # An adapter of 1 x 1 pixels is a convolution there and a matrix here.
        if self.rank == 4 and self.variable.endswith("/adapter/kernel"):
            return value.reshape(value.shape[:2]).T if value.shape[2:] == (1, 1) else value
        return value.transpose({4: _CONV, 2: (1, 0), 1: (0,)}[self.rank])

    def to_torch(self, value: np.ndarray) -> np.ndarray:
        """Our array in torch's layout."""
        if self.rank == 4 and self.variable.endswith("/adapter/kernel"):
            return value.T[:, :, None, None]
        return value.transpose({4: _CONV_BACK, 2: (1, 0), 1: (0,)}[self.rank])


def table(model: Sarnn | ClipSarnn) -> dict[str, Entry]:
    """Torch name -> our variable, for every variable of the model.

    The colour image's stream bears the original's names; streams that the originals do not have are
    ``streams.<modality>.`` before the same names, the instruction's encoder is ``text_encoder``.
    """
    published = isinstance(model, ClipSarnn)
    entries: dict[str, Entry] = {}
    for name, stream in model.streams.items() if published else [(IMAGE, model.stream)]:
        ours = f"streams/{name}" if published else "stream"
        theirs = "" if name == IMAGE else f"streams.{name}."
        entries |= _stream_table(stream, ours, theirs, "decoder_point" if published else "decoder_point.0")
    for torch_name, variable, rank in (
        ("weight_ih", "kernel", 2),
        ("weight_hh", "recurrent_kernel", 2),
        ("bias_ih", "bias_input", 1),
        ("bias_hh", "bias_recurrent", 1),
    ):
        entries[f"rec.{torch_name}"] = Entry(f"rec/{variable}", rank)
    entries |= _layer("decoder_joint" if published else "decoder_joint.0", "decoder_joint", 2)
    if published and model.text_encoder is not None:
        entries |= _layer("text_encoder", "text_encoder", 2)
    return entries


def _layer(theirs: str, ours: str, rank: int) -> dict[str, Entry]:
    return {f"{theirs}.weight": Entry(f"{ours}/kernel", rank), f"{theirs}.bias": Entry(f"{ours}/bias", 1)}


def _stream_table(stream: AttentionStream, ours: str, theirs: str, points: str) -> dict[str, Entry]:
    stacks = [("im_encoder", "im_encoder/convs"), ("decoder_image", "decoder_image/convs")]
    entries: dict[str, Entry] = {}
    if stream.uses_clip:
        entries |= _layer(f"{theirs}pos_encoder.adapter_conv", f"{ours}/pos_encoder/adapter", 4)
    else:
        stacks.insert(0, ("pos_encoder", "pos_encoder/stack/convs"))
    for torch_name, path in stacks:
        for i in range(3):
            # In torch's list the activations stand between the convolutions.
            entries |= _layer(f"{theirs}{torch_name}.{2 * i}", f"{ours}/{path}/{i}", 4)
    return entries | _layer(f"{theirs}{points}", f"{ours}/decoder_point", 2)


def is_compiled(state: Mapping[str, np.ndarray]) -> bool:
    """Whether the names are those of a compiled model."""
    return bool(state) and all(name.startswith(COMPILED_PREFIX) for name in state)


def load_torch(
    model: Sarnn | ClipSarnn, state: Mapping[str, np.ndarray], *, new_ok: Sequence[str] = ()
) -> LoadReport:
    """Sets the model's variables from a PyTorch state_dict. Nothing is set unless everything fits.

    Args:
      model: of the checkpoint's sizes; the image's size does not matter.
      state: torch name -> array, with or without the prefix of torch.compile. Grids, CLIP's pixel
        statistics and its frozen tower are passed over.
      new_ok: regular expressions for whole torch names that may be missing, unexpected or of another
        shape (a fresh head, a modality that the checkpoint lacks); those keep the model's own value.

    Returns:
      What was loaded, in torch's names.

    Raises:
      ValueError: something is missing, unexpected, of another shape, or not finite.
    """
    if any(name.startswith(COMPILED_PREFIX) for name in state) and not is_compiled(state):
        raise ValueError(
            f"Some names begin with {COMPILED_PREFIX!r}, others not. Received: {list(state)[:4]}"
        )
    names = {name.removeprefix(COMPILED_PREFIX): np.asarray(value) for name, value in state.items()}
    names = {name: value for name, value in names.items() if not _NOT_LOADED.fullmatch(name)}
    entries, variables = table(model), named_variables(model)
    target = {
        name: entry.to_torch(np.empty(variables[entry.variable].shape)).shape
        for name, entry in entries.items()
    }
    report = compare({name: value.shape for name, value in names.items()}, target, new_ok=new_ok)
    report.raise_unless_ok("The PyTorch checkpoint")
    broken = [name for name in report.loaded if not np.isfinite(names[name]).all()]
    if broken:
        raise ValueError(f"A checkpoint's values must be finite. Received: NaN or infinity in {broken[:4]}")
    for name in report.loaded:
        entry = entries[name]
        variables[entry.variable].assign(entry.from_torch(names[name]).astype(np.float32))
    return report


def to_torch(
    model: Sarnn | ClipSarnn, height: int, width: int, *, compiled: bool = False
) -> dict[str, np.ndarray]:
    """The model as a PyTorch state_dict that the originals load.

    Args:
      model: any.
      height, width: of the images; the originals store grids of that size.
      compiled: put torch.compile's prefix before the names.

    Returns:
      torch name -> float32 array, in the original's order, with its grids and, of a model with CLIP, its
      pixel statistics. The frozen tower, ``pos_encoder.clip_model.*``, is not among them: whoever writes a
      checkpoint for the original adds it.
    """
    variables = named_variables(model)
    state: dict[str, np.ndarray] = {}
    if isinstance(model, ClipSarnn) and model.use_clip:
        state |= {"pos_encoder.mean": _CLIP_MEAN.copy(), "pos_encoder.std": _CLIP_STD.copy()}
    for name, entry in table(model).items():
        state[name] = np.ascontiguousarray(entry.to_torch(variables[entry.variable].numpy()))
    grid = position_grid(height - BORDER, width - BORDER)
    if isinstance(model, ClipSarnn):
        streams = [("" if n == IMAGE else f"streams.{n}.", s) for n, s in model.streams.items()]
    else:
        streams = [("", model.stream)]
    for prefix, stream in streams:
        points = position_grid(7, 7) if stream.uses_clip else grid
        softmax = "ss" if stream.uses_clip else "6"
        state[f"{prefix}pos_encoder.{softmax}.pos_x"] = np.ascontiguousarray(points[..., 0].reshape(-1))
        state[f"{prefix}pos_encoder.{softmax}.pos_y"] = np.ascontiguousarray(points[..., 1].reshape(-1))
        state[f"{prefix}issm.pos_xy"] = np.ascontiguousarray(grid.transpose(2, 0, 1))
    order = sorted(state, key=_original_position)
    return {(COMPILED_PREFIX if compiled else "") + name: state[name] for name in order}


_ORDER = ("pos_encoder", "im_encoder", "rec", "decoder_joint", "decoder_point", "issm", "decoder_image")


def _original_position(name: str) -> tuple[bool, int]:
    """A sort key: the order in which the originals define their parts; what they lack comes last."""
    part = name.split(".")[0]
    return part not in _ORDER, _ORDER.index(part) if part in _ORDER else 0

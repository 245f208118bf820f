"""No array of SARNN's recordings is left out: what no golden test asks for is named here, with the reason."""

import fnmatch
import json
import re
from pathlib import Path

import numpy as np
import pytest

from sarnn_tf.networks.clip_sarnn import ClipSarnn
from sarnn_tf.networks.sarnn import Sarnn
from tests.golden_files import recordings
from tests.sarnn_tf.sarnn_goldens import cases_of, load, never_read, stand_in

PATTERNS = ("layers_*.npz", "sarnn_golden*.npz", "clip_sarnn_golden*.npz", "clip_dataset_golden*.npz")
LEFT_OUT = {
    "lissajous": "not for comparison, says the recordings' README",
    "train*.grad.pos_encoder.4.bias": "rounding alone: a softmax ignores what is added to all its inputs",
    "train*.after?.pos_encoder.4.bias": "Adam makes a whole step of that rounding",
    "train_T1e-4.*.after1.pos_encoder.4.weight": "Adam's first step is a sign, which rounding decides there",
    "train_T1e-4.*.after3*": "nothing after step 1 at that temperature, says the README",
    "train_T1e-4.*.eval_loss_after3": "nothing after step 1 at that temperature, says the README",
}


@pytest.mark.parametrize("path", [p for pattern in PATTERNS for p in recordings(pattern)])
def test_golden_arrays_are_all_compared(path: Path, request: pytest.FixtureRequest) -> None:
    """Runs last: file names of golden tests come before its own."""
    ran = {getattr(item, "originalname", item.name) for item in request.session.items}
    sources = [p.read_text() for p in Path(__file__).parent.glob("test_golden_*.py")]
    written = [n for source in sources for n in re.findall(r"^def (test_golden\w*)", source, re.M)]
    left = [name for name in written if name not in ran]
    if left:
        pytest.skip(f"Only some golden tests of SARNN were asked for; not among them: {left[:3]}")
    forgotten = [n for n in never_read(path) if not any(fnmatch.fnmatch(n, p) for p in LEFT_OUT)]
    assert sorted(forgotten) == []


def test_golden_cases_that_have_no_recording_are_known() -> None:
    """A case that a recording drops would otherwise drop its tests in silence."""
    for parameter in recordings("sarnn_golden*.npz"):
        path = parameter.values[0]
        recorded = {name.partition(".")[0] for name in load(path)} - {"train"}
        assert recorded <= cases_of(path).keys()
        assert cases_of(path).keys() - recorded <= {"sq40_soft"}


@pytest.mark.parametrize("path", recordings("*sarnn_params.json"))
def test_golden_stand_in_weights(path: Path) -> None:
    """The stand-in weights are those that the recordings were made with, and no parameter is missing."""
    if path.stem == "clip_sarnn_params":
        weights = stand_in(ClipSarnn(12, use_clip=False))
    else:
        weights = stand_in(Sarnn(8))
    listed = json.loads(path.read_text())
    assert weights.keys() == listed.keys()
    for name, expected in listed.items():
        value = weights[name]
        if isinstance(expected, list):
            assert list(value.shape) == expected, name
            continue
        assert list(value.shape) == expected["shape"], name
        found = [value.sum(dtype=np.float64), np.abs(value).sum(dtype=np.float64)]
        np.testing.assert_allclose(found, [expected["sum"], expected["abssum"]], rtol=1e-9, err_msg=name)

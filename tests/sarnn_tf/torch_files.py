"""Whether two files of PyTorch say the same."""

from pathlib import Path

import numpy as np

from sarnn_tf.pytorch.torch_checkpoint import read_pth


def assert_same_file(found: Path, expected: Path) -> None:
    """The same arrays of the same types under the same names in the same order, epoch and losses."""
    ours, theirs = (read_pth(path, tower=True) for path in (found, expected))
    for a, b in ((ours.state, theirs.state), (ours.tower, theirs.tower)):
        assert list(a) == list(b)
        for name, value in b.items():
            assert a[name].dtype == value.dtype
            np.testing.assert_array_equal(a[name], value, name)
    told = [(x.epoch, x.train_loss, x.test_loss) for x in (ours, theirs)]
    np.testing.assert_equal(*told)  # A loss that is not known is no number, and equals itself.

"""The published CLIP-SARNN's split: a fifth of the episodes for the test, from every task alike.

It is kept so that a run can be compared with the published one on the same episodes; new data are split by
``episodes.splits``. The draws are those of scikit-learn's stratified ``train_test_split``.
"""

import numpy as np


def tasks_by_thirds(n: int, tasks: int = 3) -> np.ndarray:
    """The published task labels: episode i of n belongs to task i // (n // 3), the remainder to the last.

    Returns:
      int64 [n].

    Raises:
      ValueError: fewer episodes than tasks.
    """
    if n < tasks:
        raise ValueError(f"There must be at least {tasks} episodes. Received: {n}")
    return np.minimum(np.arange(n) // (n // tasks), tasks - 1)


def stratified_split(
    labels: np.ndarray, test_fraction: float = 0.2, seed: int = 42
) -> tuple[np.ndarray, np.ndarray]:
    """Splits episodes so that both parts hold every label in proportion.

    Args:
      labels: [n], the task of each episode.
      test_fraction: in (0, 1); the test gets n · fraction episodes, rounded up.
      seed: of the draws.

    Returns:
      Indices for training and for the test, int64, sorted.

    Raises:
      ValueError: a label occurs once, or a part is smaller than the number of labels.
    """
    names, classes = np.unique(labels, return_inverse=True)
    counts = np.bincount(classes)
    n_test = int(np.ceil(len(classes) * test_fraction))
    n_train = len(classes) - n_test
    if counts.min() < 2 or min(n_test, n_train) < len(names):
        raise ValueError(
            "Each label must occur twice, and each part hold at least one episode a label. "
            f"Received: {dict(zip(names.tolist(), counts.tolist(), strict=True))}, {n_train} + {n_test}"
        )
    random = np.random.RandomState(seed)
    train_counts = _in_proportion(counts, n_train, random)
    test_counts = _in_proportion(counts - train_counts, n_test, random)
    train, test = [], []
    for label, (for_train, for_test) in enumerate(zip(train_counts, test_counts, strict=True)):
        members = np.flatnonzero(classes == label)[random.permutation(counts[label])]
        train.append(members[:for_train])
        test.append(members[for_train : for_train + for_test])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _in_proportion(counts: np.ndarray, draws: int, random: np.random.RandomState) -> np.ndarray:
    """How many of ``draws`` each class gets: its share, the leftovers to the largest remainders.

    Classes whose remainders tie are drawn.
    """
    share = counts / counts.sum() * draws
    given = np.floor(share).astype(np.int64)
    left = int(draws - given.sum())
    remainder = share - given
    for value in np.unique(remainder)[::-1]:
        if left == 0:
            break
        (tied,) = np.nonzero(remainder == value)
        chosen = random.choice(tied, size=min(len(tied), left), replace=False)
        given[chosen] += 1
        left -= len(chosen)
    return given

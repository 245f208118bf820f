"""When to save and when to stop, by EIPL's rule: an equal loss is an improvement too."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """What is known after some validations.

    Attributes:
      patience: stop at this many validations in a row without improvement.
      best: the lowest loss so far.
      since_best: validations since then.
      stop: once True it stays so.
    """

    patience: int = 5
    best: float = math.inf
    since_best: int = 0
    stop: bool = False

    def after(self, loss: float) -> tuple["EarlyStopping", bool]:
        """The state after another validation, and whether its weights are to be saved.

        Raises:
          ValueError: the loss is not finite.
        """
        if not math.isfinite(loss):
            raise ValueError(f"The validation loss must be finite. Received: {loss}")
        if loss <= self.best:
            return dataclasses.replace(self, best=loss, since_best=0), True
        since = self.since_best + 1
        return dataclasses.replace(self, since_best=since, stop=self.stop or since >= self.patience), False

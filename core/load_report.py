"""What came of loading weights into a network, and name mapping as data.

One implementation for RT-1's checkpoints, PyTorch SARNN and OpenCLIP: a source is a mapping from
names to shapes, a target is a mapping from names to shapes, and ordered rules rename the source's
names to the target's.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rule:
    """Renames the names that ``pattern`` matches whole.

    Attributes:
      pattern: a regular expression for the whole source name.
      replacement: the target name, with ``\\1`` groups as in ``re.sub``, or a function of the match;
        None drops the name on purpose (an optimiser slot, a counter).
      transform: applied to the value, e.g. a transpose.
      reason: why a name is dropped, for a reader of the rules.
    """

    pattern: str
    replacement: str | Callable[[re.Match[str]], str] | None
    transform: Callable[[np.ndarray], np.ndarray] | None = None
    reason: str = ""

    def match(self, name: str) -> re.Match[str] | None:
        return re.fullmatch(self.pattern, name)

    def rename(self, match: re.Match[str]) -> str | None:
        if self.replacement is None:
            return None
        if callable(self.replacement):
            return self.replacement(match)
        return match.expand(self.replacement)


@dataclasses.dataclass(frozen=True)
class Mapped:
    """One source variable under its target name."""

    source: str
    target: str
    transform: Callable[[np.ndarray], np.ndarray] | None = None


def map_names(names: Iterable[str], rules: Sequence[Rule]) -> tuple[list[Mapped], list[str]]:
    """Applies the first matching rule to every name.

    Returns:
      The renamed variables, and the names that no rule matched. Names that a rule drops on purpose
      are in neither.

    Raises:
      ValueError: two source names were given one target name.
    """
    mapped: list[Mapped] = []
    unmatched: list[str] = []
    seen: dict[str, str] = {}
    for name in names:
        for rule in rules:
            match = rule.match(name)
            if match is None:
                continue
            target = rule.rename(match)
            if target is not None:
                if target in seen:
                    raise ValueError(
                        f"Two variables map to one name {target!r}. Received: {seen[target]!r} and {name!r}"
                    )
                seen[target] = name
                mapped.append(Mapped(name, target, rule.transform))
            break
        else:
            unmatched.append(name)
    return mapped, unmatched


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What loading did, or would do, by target name.

    Attributes:
      loaded: variables that have their value from the source.
      missing: variables of the network that the source does not have.
      unexpected: variables of the source that the network does not have.
      mismatched: variables that both have, in different shapes or types.
      allowed: missing, unexpected or mismatched names that the caller declared new; they are not in
        the three lists above.
      details: for a mismatched name, one sentence.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    allowed: tuple[str, ...] = ()
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True where nothing is missing, unexpected or mismatched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self, limit: int = 8) -> str:
        """A few lines for a person, with at most ``limit`` names a list."""
        lines = [
            f"{len(self.loaded)} loaded, {len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.mismatched)} mismatched, {len(self.allowed)} allowed to be new"
        ]
        for title in ("missing", "unexpected", "mismatched", "allowed"):
            names = getattr(self, title)
            for name in names[:limit]:
                detail = self.details.get(name)
                lines.append(f"  {title}: {name}" + (f" ({detail})" if detail else ""))
            if len(names) > limit:
                lines.append(f"  {title}: … and {len(names) - limit} more")
        return "\n".join(lines)

    def raise_unless_ok(self, what: str) -> None:
        """Raises ValueError with the summary where something does not fit."""
        if not self.ok:
            raise ValueError(f"{what} does not fit the network. Received: {self.summary()}")

    def to_json(self) -> dict[str, list[str]]:
        """The four lists of names."""
        return {
            "loaded": list(self.loaded),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": list(self.mismatched),
        }


def compare(
    source: Mapping[str, Shape],
    target: Mapping[str, Shape],
    *,
    new_ok: Sequence[str] = (),
    unmatched: Iterable[str] = (),
) -> LoadReport:
    """Compares names and shapes, both in the target's names.

    Args:
      source: name -> shape of what the file has.
      target: name -> shape of what the network has.
      new_ok: regular expressions for whole target names that may be missing, unexpected or of another
        shape (a fresh head); those keep the network's own value.
      unmatched: source names that no rule renamed; they count as unexpected.
    """
    unmatched = list(unmatched)

    def is_allowed(name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in new_ok)

    loaded: list[str] = []
    missing: list[str] = []
    unexpected: list[str] = []
    mismatched: list[str] = []
    allowed: list[str] = []
    details: dict[str, str] = {}
    for name in target:
        if name not in source:
            (allowed if is_allowed(name) else missing).append(name)
        elif tuple(source[name]) != tuple(target[name]):
            details[name] = f"the file has {list(source[name])}, the network {list(target[name])}"
            (allowed if is_allowed(name) else mismatched).append(name)
        else:
            loaded.append(name)
    for name in [*(n for n in source if n not in target), *unmatched]:
        (allowed if is_allowed(name) else unexpected).append(name)
    return LoadReport(
        tuple(loaded), tuple(missing), tuple(unexpected), tuple(mismatched), tuple(allowed), details
    )

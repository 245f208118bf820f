"""Joint positions by name: what each joint's own samples are, whoever published them in whatever order.

Angles are taken as published: a continuous joint that jumps from pi to -pi is not unwrapped, since a
recording does not say which joints are continuous; interpolation between the two samples around such a
jump passes through 0.
"""

import dataclasses
import fnmatch
from collections.abc import Sequence

import numpy as np

from episodes.recording import JointSamples
from episodes.synchronisation.measures import seconds
from episodes.synchronisation.report import SyncError


@dataclasses.dataclass(frozen=True, eq=False)
class JointSeries:
    """The samples of one joint.

    Attributes:
      stamp_ns: int64 [n], ascending, each once.
      positions: float64 [n], finite; rad, or m for a prismatic joint.
      message: int64 [n], the message on the topic that holds the sample.
    """

    stamp_ns: np.ndarray
    positions: np.ndarray
    message: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class JointSelection:
    """The joints that an episode is made of.

    Attributes:
      names: of the observed joints, in their order.
      series: of these, and of the others that were asked for.
      groups: for each publisher of these joints, its messages on the topic, int64, ascending.
      not_finite: samples that were left out for being NaN or infinite.
      notes: what was odd, one sentence each.
      varying: who publishes which joints when, a sentence, where not all messages are of the same ones.
    """

    names: tuple[str, ...]
    series: dict[str, JointSeries]
    groups: tuple[np.ndarray, ...]
    not_finite: int
    notes: tuple[str, ...]
    varying: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Source:
    """Who publishes a set of joints: a publisher, or, where none is known, all messages of the same names."""

    label: str
    known: bool
    names: tuple[str, ...]  # As in its first message, then those that came later.
    # For each order of names: these, the messages that list them so, and their positions [n, names].
    tables: tuple[tuple[tuple[str, ...], np.ndarray, np.ndarray], ...]

    @property
    def messages(self) -> np.ndarray:
        return np.sort(np.concatenate([messages for _, messages, _ in self.tables]))

    def samples_of(self, joint: str) -> tuple[np.ndarray, np.ndarray]:
        """Messages that have the joint, and its positions in them."""
        having = [(m, p[:, names.index(joint)]) for names, m, p in self.tables if joint in names]
        return np.concatenate([m for m, _ in having]), np.concatenate([p for _, p in having])


def select_joints(
    samples: JointSamples,
    names: Sequence[str] = (),
    publisher: str | None = None,
    also: Sequence[str] = (),
) -> JointSelection:
    """Sorts the messages of a topic into joints.

    Messages of several publishers are merged by name, each joint from its own samples. Samples of one joint
    from several publishers are an error, unless they follow each other in time, as with a node that was
    started anew. ROS 2 records no publishers: there, messages of the same set of names count as one
    publisher's, and of several with the same joint the one is taken whose names are just the wanted ones,
    or else the only one that has all of them. Messages without names are ``joint_0``, ``joint_1`` …

    Args:
      samples: of the topic.
      names: the observed joints; empty for those of the only publisher, as first published, or of the one
        whose joints are all that there are.
      publisher: wildcard; messages of others are left out.
      also: further joints to give, observed or not.

    Raises:
      SyncError: nothing published, a joint that is not, one that several publish, several publishers of
        different joints without ``names``, messages without names of different lengths, or a joint twice in
        one message.
    """
    sources = _sources(samples, publisher)
    there = sorted({name for source in sources for name in source.names})
    sets = _sets(samples, sources)
    if not names:
        names = max(sources, key=lambda source: len(source.messages)).names
        if not set(there) <= {*names, *also}:
            raise SyncError(
                f"{samples.topic} must publish one set of joints, or joint_names name those to observe, or "
                f"joint_publisher pick their publisher. Received: {'; '.join(sets)}"
            )
    wanted = list(dict.fromkeys((*names, *also)))
    missing = [name for name in wanted if name not in there]
    if missing:
        raise SyncError(f"{samples.topic} must publish the joints {missing}. Received: {there}")
    notes = []
    unused = [name for name in there if name not in wanted]
    if unused:
        notes.append(f"{samples.topic} also publishes {', '.join(unused)}, which are not taken")
    series, not_finite = {}, 0
    chosen: dict[str, _Source] = {}
    shared: dict[str, list[str]] = {}
    for name in wanted:
        having = [source for source in sources if name in source.names]
        taken = _unambiguous(samples, name, having, wanted)
        if len(taken) > 1:
            shared.setdefault(f"of {_listed(taken)}, one after the other", []).append(name)
        elif len(having) > 1:
            shared.setdefault(f"of {_listed(taken)}, although others publish them too", []).append(name)
        series[name], dropped = _series(samples, name, taken)
        not_finite += dropped
        chosen.update((source.label, source) for source in taken)
    notes += [f"{samples.topic}: {', '.join(joints)} are those {which}" for which, joints in shared.items()]
    if not_finite:
        notes.append(f"{samples.topic}: {not_finite} positions that are NaN or infinite are left out")
    groups = tuple(source.messages for source in chosen.values())
    varying = (
        f"{samples.topic} is not always of the same joints: {'; '.join(sets)}" if len(sets) > 1 else None
    )
    return JointSelection(tuple(names), series, groups, not_finite, tuple(notes), varying)


def _sources(samples: JointSamples, pattern: str | None) -> list[_Source]:
    """Publishers with positions, in the order in which they began."""
    tables: dict[str, dict[tuple[str, ...], list[int]]] = {}
    unnamed: dict[str, int] = {}
    labels: dict[str, bool] = {}
    of_names: dict[tuple[str, ...], str] = {}
    publishers = list(dict.fromkeys(samples.publisher))
    allowed = {name for name in publishers if pattern is None or fnmatch.fnmatchcase(name, pattern)}
    if not allowed:
        raise SyncError(
            f"{samples.topic}: joint_publisher must fit a publisher. Received: {pattern!r}, there are "
            f"{sorted(publishers)}"
        )
    for i, (names, positions, publisher) in enumerate(
        zip(samples.names, samples.positions, samples.publisher, strict=True)
    ):
        if publisher not in allowed or not len(positions):
            continue
        if not names:
            names = tuple(f"joint_{j}" for j in range(len(positions)))
            if unnamed.setdefault(publisher, len(names)) != len(names):
                raise SyncError(
                    f"{samples.topic}: messages without joint names must all be of the same length. "
                    f"Received: {unnamed[publisher]} and {len(names)} positions"
                )
        if len(names) != len(positions) or len(set(names)) != len(names):
            raise SyncError(
                f"{samples.topic}: a message must have one position for each of its joints, each named "
                f"once. Received: {len(positions)} positions of {list(names)}"
            )
        if publisher:
            label = publisher
        else:
            if names not in of_names:  # Sorting once for each order of names, not for each message.
                of_names[names] = f"[{', '.join(sorted(names))}]"
            label = of_names[names]
        labels[label] = bool(publisher)
        tables.setdefault(label, {}).setdefault(names, []).append(i)
    if not tables:
        raise SyncError(f"{samples.topic} must publish positions. Received: {len(samples.names)} without any")
    return [
        _Source(
            label,
            labels[label],
            tuple(dict.fromkeys(name for names in of_label for name in names)),
            tuple(
                (names, np.array(messages, np.int64), np.array([samples.positions[i] for i in messages]))
                for names, messages in of_label.items()
            ),
        )
        for label, of_label in tables.items()
    ]


def _sets(samples: JointSamples, sources: Sequence[_Source]) -> list[str]:
    """Each publisher's sets of joints, whatever their order: names to copy, how many messages, and when."""
    parts: dict[tuple[str, frozenset[str]], list[tuple[tuple[str, ...], np.ndarray]]] = {}
    for source in sources:
        for names, messages, _ in source.tables:
            publisher = source.label if source.known else "an unknown publisher"
            parts.setdefault((publisher, frozenset(names)), []).append((names, messages))
    begin = samples.stamp_ns.min()
    sentences = []
    for (publisher, _), tables in parts.items():
        messages = np.concatenate([messages for _, messages in tables])
        first, last = (
            seconds(samples.stamp_ns[messages].min() - begin),
            seconds(samples.stamp_ns[messages].max() - begin),
        )
        when = f"{len(messages)} messages, {first:.3f} to {last:.3f} s"
        sentences.append(f"joint_names = {tables[0][0]} by {publisher} ({when})")
    return sentences


def _unambiguous(
    samples: JointSamples, joint: str, having: list[_Source], wanted: Sequence[str]
) -> list[_Source]:
    stamps = [samples.stamp_ns[source.samples_of(joint)[0]] for source in having]
    spans = sorted((int(s.min()), int(s.max())) for s in stamps)
    if all(before[1] < after[0] for before, after in zip(spans, spans[1:], strict=False)):
        return having
    if not any(source.known for source in having):
        exact = [source for source in having if set(source.names) == set(wanted)]
        whole = [source for source in having if set(source.names) >= set(wanted)]
        if len(exact) == 1 or len(whole) == 1:
            return exact or whole
        raise SyncError(
            f"{samples.topic}: {joint} must be in one set of joints; name in joint_names all joints of the "
            f"set to take. Received: {_listed(having)}"
        )
    raise SyncError(
        f"{samples.topic}: {joint} must come from one publisher; pick it by joint_publisher. "
        f"Received: {_listed(having)}"
    )


def _series(samples: JointSamples, joint: str, sources: list[_Source]) -> tuple[JointSeries, int]:
    """The joint's samples in the order of time, and how many were not finite."""
    parts = [source.samples_of(joint) for source in sources]
    message, position = np.concatenate([m for m, _ in parts]), np.concatenate([p for _, p in parts])
    finite = np.isfinite(position)
    if not finite.any():
        raise SyncError(f"{samples.topic}: {joint} must have finite positions. Received: none")
    message, position = message[finite], position[finite]
    # Of samples with one stamp the first message's is taken.
    in_order = np.argsort(message)
    message, position = message[in_order], position[in_order]
    stamps, first = np.unique(samples.stamp_ns[message], return_index=True)
    return JointSeries(stamps, position[first], message[first]), int((~finite).sum())


def _listed(sources: Sequence[_Source]) -> str:
    return ", ".join(f"{source.label} ({len(source.messages)} messages)" for source in sources)

"""An inspected bag as a table for the terminal."""

from collections.abc import Iterator, Sequence

from episodes.inspection import BagInspection, TopicInspection

_COLUMNS = (
    "topic",
    "type",
    "count",
    "Hz",
    "mean Hz",
    "gaps",
    "longest s",
    "stamp-log ms (min..max)",
    "content",
)


def to_text(bag: BagInspection) -> str:
    """One bag, its topics a line each, then what a topic map finds, and what was odd."""
    return "\n".join(_lines(bag)) + "\n"


def _lines(bag: BagInspection) -> Iterator[str]:
    yield str(bag.path)
    if not bag.ros:
        yield f"  refused: {bag.error}"
        return
    declared = "" if bag.declared in (None, bag.messages) else f" of {bag.declared} declared"
    duration = "" if bag.duration_s is None else f", {bag.duration_s:.2f} s"
    salvaged = ", salvaged" if bag.salvaged else ""
    yield (
        f"  {bag.ros} {bag.storage}, compression {bag.compression}: "
        f"{bag.messages} messages{declared}{duration}{salvaged}"
    )
    rows = [_COLUMNS, *(_row(name, topic) for name, topic in bag.topics.items())]
    yield from (f"    {line}" for line in _table(rows))
    for name, topic in bag.topics.items():
        for publisher, lists in topic.joints.items():
            for names in lists:
                yield f"  joints of {name}{f' from {publisher}' if publisher else ''}: {', '.join(names)}"
    if bag.resolution is not None:
        for part, found in bag.resolution.found.items():
            yield f"  topic map: {part} is {found}"
        for part in bag.resolution.missing:
            if not any(problem.startswith(f"{part}:") for problem in bag.resolution.problems):
                near = ", ".join(bag.resolution.missing[part])
                yield f"  topic map: {part} is not there and optional{f'; nearest: {near}' if near else ''}"
        yield from (f"  topic map: {problem}" for problem in bag.resolution.problems)
    for name, topic in bag.topics.items():
        for reason, count in topic.undecodable_reasons.items():
            yield f"  not decodable, {count} of {name}: {reason}"
    yield from (f"  note: {note}" for note in bag.notes)
    if bag.error is not None:
        yield f"  ended early: {bag.error}"


def _row(name: str, topic: TopicInspection) -> tuple[str, ...]:
    count = str(topic.count)
    if topic.declared not in (None, topic.count):
        count += f"/{topic.declared}"
    content = [f"{kind} ({n})" if n != topic.count else kind for kind, n in topic.frames.items()]
    if len(topic.publishers) > 1:
        content.append(f"from {', '.join(topic.publishers)}")
    if topic.undecodable:
        content.append(f"{topic.undecodable} not decodable")
    return (
        name,
        ", ".join(topic.types),
        count,
        "-" if topic.rate_hz is None else f"{topic.rate_hz:.2f}",
        "-" if topic.mean_rate_hz is None else f"{topic.mean_rate_hz:.2f}",
        str(topic.gaps) if topic.count > 1 else "-",
        f"{topic.largest_gaps[0][1]:.3f}" if topic.largest_gaps else "-",
        _offset(topic),
        "; ".join(content),
    )


def _offset(topic: TopicInspection) -> str:
    if topic.zero_stamps is None:
        return "no header"
    if topic.stamp_minus_log_s is None:
        return "all stamps 0"
    median, least, most = (1e3 * value for value in topic.stamp_minus_log_s)
    zero = f", {topic.zero_stamps} are 0" if topic.zero_stamps else ""
    return f"{median:.1f} ({least:.1f}..{most:.1f}){zero}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

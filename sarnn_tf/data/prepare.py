"""Making recorded episodes ready for a SARNN, once: resized images, the frozen CLIP's features, joints."""

import contextlib
import dataclasses
import hashlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from sarnn_tf.data.components import (
    Component,
    ComponentWriter,
    digest_of,
    is_there,
    locked,
    open_component,
    writing,
)
from sarnn_tf.data.prepared import PreparedData
from sarnn_tf.data.recorded_episode import EpisodeSource, RecordedEpisode
from sarnn_tf.frozen_clip import FrozenClip
from sarnn_tf.image_modality import IMAGE, ImageModality
from sarnn_tf.preparation import prepare_images, to_unit

# Raised whenever the same recordings give other arrays.
_VERSION = 1
_EPISODES, _PATCHES, _TEXT = "episodes", "patches", "text"
_AT_ONCE = 32


def prepare(
    source: EpisodeSource,
    modalities: Sequence[ImageModality],
    clip: FrozenClip | None,
    folder: str | Path,
    *,
    stride: int = 1,
    patches: bool = True,
) -> PreparedData:
    """Reads a data set once, or finds on the disk what an earlier call made of it.

    Memory is needed for a few frames and one episode's joints. What is missing is computed in one pass, by
    one process at a time, and appears whole or not at all.

    Args:
      source: the episodes. Those with less than two steps are left out, and so is one whose id came before;
        a warning names them.
      modalities: that are on.
      clip: computes the patches of the colour images (as prepared, without noise) and the embeddings of
        the instructions; None for neither.
      folder: of prepared data; it may be shared by many data sets.
      stride: takes every n-th step, from the first; the published CLIP-SARNN takes 2.
      patches: False where ``clip`` is only to embed the instructions.

    Raises:
      ValueError: an argument is out of range; an episode lacks a modality, or an instruction that CLIP
        is to embed, or has joints that are not finite, or of another number; or prepared data are
        damaged. The message names the episode.
    """
    plan = _Plan.make(source, modalities, clip, Path(folder), stride, patches)
    if plan.missing():
        with locked(plan.folder):
            missing = plan.missing()
            if set(missing) - {_TEXT}:
                _compute(plan, missing)
            if _TEXT in missing and clip is not None:
                table = open_component(plan.place(_EPISODES)).table
                for row in table["episodes"]:
                    _require_instruction(source.name, row["id"], row["instruction"])
                with writing(plan.place(_TEXT)) as text:
                    text.table = list(_instructions(table))
                    # A few at a time: there are data sets of ten thousands of instructions.
                    for i in range(0, len(text.table), _AT_ONCE):
                        text.append(clip.text(text.table[i : i + _AT_ONCE]))
    return _opened(plan, {name: open_component(plan.place(name)) for name in plan.keys})


make_prepared = gin.external_configurable(
    prepare, "make_prepared", module="sarnn_tf.data", denylist=["source", "modalities", "clip", "folder"]
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """What shall be there: ``keys`` maps components to the names of their folders."""

    source: EpisodeSource
    modalities: dict[str, ImageModality]
    clip: FrozenClip | None
    stride: int
    folder: Path
    keys: dict[str, str]

    @classmethod
    def make(
        cls,
        source: EpisodeSource,
        modalities: Sequence[ImageModality],
        clip: FrozenClip | None,
        folder: Path,
        stride: int,
        patches: bool,
    ) -> "_Plan":
        if stride < 1:
            raise ValueError(f"stride must be at least 1. Received: {stride}")
        by_name = {m.name: m for m in modalities}
        if not by_name or len(by_name) != len(modalities):
            raise ValueError(
                f"There must be modalities, none twice. Received: {[m.name for m in modalities]}"
            )
        if {_EPISODES, _PATCHES, _TEXT} & set(by_name):
            raise ValueError(f"A modality cannot have this name. Received: {sorted(by_name)}")
        keys = {_EPISODES: _EPISODES}
        for name, modality in by_name.items():
            how = {k: v for k, v in dataclasses.asdict(modality).items() if k not in ("k_dim", "full_scale")}
            keys[name] = f"{name}-{digest_of(how)}"
        if clip is not None:
            keys[_TEXT] = f"{_TEXT}-{digest_of(clip.fingerprint)}"
            if patches:
                if IMAGE not in by_name:
                    raise ValueError(f"CLIP looks at the modality {IMAGE!r}. Received: {sorted(by_name)}")
                seen = [clip.fingerprint, keys[IMAGE], by_name[IMAGE].full_scale]
                keys[_PATCHES] = f"{_PATCHES}-{digest_of(seen)}"
        place = folder / digest_of([_VERSION, source.fingerprint, stride])
        return cls(source, by_name, clip, stride, place, keys)

    def place(self, component: str) -> Path:
        return self.folder / self.keys[component]

    def missing(self) -> list[str]:
        return [name for name in self.keys if not is_there(self.place(name))]


def _compute(plan: _Plan, missing: Sequence[str]) -> None:
    """Passes over the source once, and publishes what is missing, but for the text."""
    source = plan.source
    logging.info("%s: preparing %s, once, in %s.", source.name, ", ".join(missing), plan.folder)
    wanted = [name for name in plan.modalities if name in missing or (name == IMAGE and _PATCHES in missing)]
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    low, high = np.full(len(source.joint_names), np.inf), np.full(len(source.joint_names), -np.inf)
    with contextlib.ExitStack() as stack:
        writers = {name: stack.enter_context(writing(plan.place(name))) for name in missing if name != _TEXT}
        bar = stack.enter_context(
            tqdm(
                total=source.num_episodes,
                desc=f"Preparing {source.name}",
                unit="episode",
                file=sys.stderr,
                leave=False,
                disable=None,
            )
        )
        seen: set[str] = set()
        for episode in source.episodes(wanted):
            bar.update()
            joints = _checked_joints(episode, source)[:: plan.stride]
            if len(joints) < 2 or episode.id in seen:
                left_out.append(episode.id)
                continue
            seen.add(episode.id)
            if plan.clip is not None:
                _require_instruction(source.name, episode.id, episode.instruction)
            for name in wanted:
                _write_images(plan, episode, name, len(joints), writers)
            if _EPISODES in writers:
                writers[_EPISODES].append(joints)
            low, high = np.minimum(low, joints.min(axis=0)), np.maximum(high, joints.max(axis=0))
            rows.append(
                {
                    "id": episode.id,
                    "part": episode.part,
                    "instruction": episode.instruction,
                    "steps": len(joints),
                }
            )
        if left_out:
            logging.warning(
                "%s: %d episodes are left out, as they have less than two steps, or ids that came before: %s",
                source.name,
                len(left_out),
                left_out[:10],
            )
        if not rows:
            raise ValueError(
                f"{source.name} must have an episode of at least two steps at stride {plan.stride}. "
                f"Received: {len(left_out)} shorter ones"
            )
        if _EPISODES in writers:
            writers[_EPISODES].table = {"episodes": rows, "bounds": [low.tolist(), high.tolist()]}


def _write_images(
    plan: _Plan, episode: RecordedEpisode, name: str, steps: int, writers: dict[str, ComponentWriter]
) -> None:
    modality, written = plan.modalities[name], 0
    try:
        for chunk in _chunks(episode.images[name].every(plan.stride)):
            stored = prepare_images(np.stack(chunk), modality)
            _check_scale(stored, modality)
            written += len(stored)
            if name in writers:
                writers[name].append(stored)
            if name == IMAGE and _PATCHES in writers and plan.clip is not None:
                writers[_PATCHES].append(plan.clip.patches(to_unit(stored, modality)))
        if written != steps:
            raise ValueError(f"there must be an image for each of {steps} steps. Received: {written}")
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{plan.source.name}, episode {episode.id!r}, {name}: {error}") from error


def _chunks(images: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    while chunk := list(itertools.islice(images, _AT_ONCE)):
        yield chunk


def _check_scale(stored: np.ndarray, modality: ImageModality) -> None:
    """A wrong full_scale would make an image all white or all black, and nobody would see it."""
    if (stored.dtype == np.uint16) != (modality.full_scale > 255):
        raise ValueError(
            "full_scale must be beyond 255 for uint16 (e.g. 2000 for depth in millimetres), and at most 255 "
            f"for uint8. Received: {modality.full_scale} for {stored.dtype}"
        )


def _checked_joints(episode: RecordedEpisode, source: EpisodeSource) -> np.ndarray:
    joints, count = np.asarray(episode.joints, np.float32), len(source.joint_names)
    if joints.ndim != 2 or joints.shape[1] != count:
        raise ValueError(
            f"{source.name}, episode {episode.id!r}: joints must be [steps, {count}]. "
            f"Received: {list(joints.shape)}"
        )
    wrong = np.argwhere(~np.isfinite(joints))
    if len(wrong):
        step, joint = wrong[0].tolist()
        raise ValueError(
            f"{source.name}, episode {episode.id!r}: joints must be finite. "
            f"Received: {joints[step, joint]} for {source.joint_names[joint]} at step {step}"
        )
    return joints


def _require_instruction(name: str, episode_id: str, instruction: str) -> None:
    if not instruction:
        raise ValueError(
            f"{name}, episode {episode_id!r}, has no instruction for CLIP to embed: give one when the source "
            "is opened (make_source.instruction), or do without CLIP. Received: ''"
        )


def _instructions(table: dict[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row["instruction"] for row in table["episodes"]))


def _opened(plan: _Plan, parts: dict[str, Component]) -> PreparedData:
    source, table = plan.source, parts[_EPISODES].table
    try:
        rows, bounds = table["episodes"], np.array(table["bounds"], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Prepared data are damaged; remove the folder {plan.folder}, and it is made again. "
            f"Received: a table without {error}"
        ) from error
    lengths = np.array([row["steps"] for row in rows], np.int64)
    for name, part in parts.items():
        if name in plan.modalities:
            # Prepared images do not depend on it, and may have been prepared with another.
            try:
                _check_scale(part.rows, plan.modalities[name])
            except ValueError as error:
                raise ValueError(f"{source.name}, {name}: {error}") from error
        if name != _TEXT and len(part.rows) != lengths.sum():
            raise ValueError(
                f"Prepared data do not fit each other; remove the folder {plan.folder}. "
                f"Received: {len(part.rows)} steps of {name}, {lengths.sum()} of the episodes"
            )
    if _TEXT in parts and parts[_TEXT].table != list(_instructions(table)):
        raise ValueError(f"Prepared data do not fit each other; remove the folder {plan.folder}.")
    digest = hashlib.sha256(digest_of([plan.keys, table, list(source.joint_names)]).encode())
    for name in (_EPISODES, *plan.modalities):
        digest.update(parts[name].sha256.encode())
    return PreparedData(
        name=source.name,
        ids=tuple(row["id"] for row in rows),
        instructions=tuple(row["instruction"] for row in rows),
        source_parts=tuple(row["part"] for row in rows),
        lengths=lengths,
        joint_names=source.joint_names,
        joint_bounds=_bounds(source, bounds),
        rate_hz=None if source.rate_hz is None else source.rate_hz / plan.stride,
        modalities=plan.modalities,
        clip_fingerprint="" if plan.clip is None else plan.clip.fingerprint,
        fingerprint=digest.hexdigest(),
        images={name: parts[name].rows for name in plan.modalities},
        joints=parts[_EPISODES].rows,
        patches=parts[_PATCHES].rows if _PATCHES in parts else None,
        text_of_instruction=dict(zip(parts[_TEXT].table, parts[_TEXT].rows, strict=True))
        if _TEXT in parts
        else None,
    )


def _bounds(source: EpisodeSource, found: np.ndarray) -> np.ndarray:
    given = source.joint_bounds
    if given is None:
        return found
    if (given[0] <= found[0]).all() and (given[1] >= found[1]).all():
        return given
    logging.warning(
        "%s: the joint bounds that come with the data, %s, do not hold all steps; those of the steps are "
        "taken.",
        source.name,
        given.tolist(),
    )
    return found

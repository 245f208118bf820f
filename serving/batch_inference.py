"""A folder of images to one JSON file of predictions, without a server.

python -m serving.batch_inference --checkpoint runs/food --images plates --action skewering \\
    --food_type banana --out predictions.json
python -m serving.batch_inference --checkpoint runs/food --images plates --csv labels.csv \\
    --out predictions.json

The CSV has a header with ``file`` (relative to the images) and, as far as they apply, ``action``,
``food_type``, ``text`` and the label ``x1,y1,x2,y2``; with labels the validation metrics are computed
too. Exit status 0 when every image was answered, else 1; the errors are in the file, image by image.
"""

import csv
import dataclasses
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging
from tqdm import tqdm

from core import files
from core import food as vocabulary
from serving import food, images, manipulation, observations, registry
from serving.errors import ApiError
from serving.model import Model, checked_infer, load_model
from serving.registry import EvaluationMetrics

_FOOD = "food"
_COLUMNS = ("file", "action", "food_type", "text", *vocabulary.PARAMETERS)


@dataclasses.dataclass(frozen=True)
class Item:
    """One image to answer.

    Attributes:
      file: relative to the folder of images.
      action, food_type, text: the instruction, "" where not given.
      label: x1, y1, x2, y2 as fractions of the image, None without a label.
    """

    file: str
    action: str = ""
    food_type: str = ""
    text: str = ""
    label: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Limits:
    """How large an image file may be; a local folder is trusted with more than a request."""

    max_bytes: int = 64 << 20
    max_pixels: int = 64 << 20


def items_of_folder(folder: Path, action: str, food_type: str, text: str) -> list[Item]:
    """Every image of a folder (not of its subfolders), by name, asked the same.

    Raises:
      ValueError: there is none.
    """
    found = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in images.SUFFIXES)
    if not found:
        raise ValueError(f"images must hold {', '.join(images.SUFFIXES)} files. Received: {folder}")
    return [Item(name, action, food_type, text) for name in found]


def items_of_csv(path: Path, action: str, food_type: str, text: str) -> list[Item]:
    """The rows of a CSV; what a row leaves empty is taken from the arguments.

    Raises:
      ValueError: a column is missing or unknown, or a label is not four numbers in [0, 1]; the message
        names the line.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        unknown = sorted(set(columns) - set(_COLUMNS))
        if "file" not in columns or unknown:
            raise ValueError(f"{path}: columns must be of {list(_COLUMNS)}. Received: {list(columns)}")
        defaults = {"action": action, "food_type": food_type, "text": text}
        items = []
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or not (row["file"] or "").strip():
                raise ValueError(f"{where}: a file and one value a column are needed. Received: {row}")
            asked = {name: (row.get(name) or "").strip() or value for name, value in defaults.items()}
            items.append(Item(row["file"].strip(), **asked, label=_label(row, where)))
    if not items:
        raise ValueError(f"{path} must have rows. Received: none")
    return items


def _label(row: dict[str, str], where: str) -> tuple[float, ...] | None:
    given = [(row.get(name) or "").strip() for name in vocabulary.PARAMETERS]
    if not any(given):
        return None
    try:
        label = tuple(float(value) for value in given)
    except ValueError as error:
        raise ValueError(f"{where}: x1, y1, x2, y2 must be four numbers. Received: {given}") from error
    if not all(0.0 <= value <= 1.0 for value in label):
        raise ValueError(f"{where}: x1, y1, x2, y2 must lie in [0, 1]. Received: {given}")
    return label


def predict_items(
    model: Model, folder: Path, items: Sequence[Item], *, batch_size: int = 16, limits: Limits | None = None
) -> Iterator[dict[str, Any]]:
    """One result for each item, in order: its answer, or what went wrong with it.

    Neighbours with images of one size are answered in one call of the policy.

    Yields:
      {file, success, input_action, input_food_type, input_text, and prediction (food) or action and
      terminate, or error {code, message, field}}.
    """
    limits = limits or Limits()
    for group in _batched(items, batch_size):
        rows = [_row(model, folder, item, limits) for item in group]
        good = [(i, row) for i, row in enumerate(rows) if not isinstance(row, ApiError)]
        answers: dict[int, dict[str, Any]] = {
            i: {"success": False, "error": _error(row)}
            for i, row in enumerate(rows)
            if isinstance(row, ApiError)
        }
        for _, same in itertools.groupby(sorted(good, key=_shapes), key=_shapes):
            answers.update(_answers(model, list(same)))
        for i, item in enumerate(group):
            asked = {f"input_{k}": getattr(item, k) or None for k in ("action", "food_type", "text")}
            yield {"file": item.file, **asked, **answers[i]}


def metrics_of(
    results: Sequence[dict[str, Any]], items: Sequence[Item], evaluate: EvaluationMetrics
) -> dict[str, Any]:
    """The validation metrics over the answered images that have a label, and ``count`` of them."""
    pairs = [
        (r["prediction"], item.label)
        for r, item in zip(results, items, strict=True)
        if r["success"] and item.label is not None
    ]
    if not pairs:
        return {"count": 0}
    predicted = np.array(
        [[p[k] for k in ("start_x", "start_y", "end_x", "end_y")] for p, _ in pairs], np.float32
    )
    true = np.array([label for _, label in pairs], np.float32)
    return {"count": len(pairs), **{k: float(v) for k, v in evaluate(predicted, true).items()}}


def run(
    model: Model,
    folder: Path,
    items: Sequence[Item],
    out: Path,
    *,
    evaluate: EvaluationMetrics | None = None,
    batch_size: int = 16,
) -> int:
    """Answers every item and writes ``out``; how many failed.

    Raises:
      ValueError: there are labels, but the policy is not a food policy or has no metrics.
    """
    labelled = any(item.label is not None for item in items)
    if labelled and (evaluate is None or model.spec.task != _FOOD):
        raise ValueError(f"x1, y1, x2, y2 need a food model with evaluation_metrics. Received: {model.id}")
    progress = tqdm(
        predict_items(model, folder, items, batch_size=batch_size), total=len(items), unit="image"
    )
    results = list(progress)
    failed = sum(not result["success"] for result in results)
    content: dict[str, Any] = {"model": model.id, "count": len(results), "failed": failed, "results": results}
    if labelled and evaluate is not None:
        content["metrics"] = metrics_of(results, items, evaluate)
    files.write_json(out, content)
    return failed


def _row(model: Model, folder: Path, item: Item, limits: Limits) -> dict[str, np.ndarray] | ApiError:
    try:
        if model.spec.task == _FOOD:
            instruction: str | None = food.instruction(model.spec, item.action, item.food_type, item.text)
        else:
            instruction = manipulation.instruction(model.spec, item.text)
        image = images.read_image(folder / item.file, limits.max_bytes, limits.max_pixels)
        return observations.row(model.spec, {observations.IMAGE: image}, instruction)
    except ApiError as error:
        return error


def _shapes(numbered: tuple[int, dict[str, np.ndarray]]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((name, value.shape) for name, value in numbered[1].items())


def _answers(model: Model, rows: list[tuple[int, dict[str, np.ndarray]]]) -> dict[int, dict[str, Any]]:
    asked = {name: np.concatenate([row[name] for _, row in rows]) for name in rows[0][1]}
    # The threshold to the policy: what it cannot answer is that image's error, and the others go on.
    try:
        result, _ = checked_infer(model, asked, model.policy.initial_state(len(rows)))
    except Exception as error:
        if len(rows) > 1:
            return {i: answer for row in rows for i, answer in _answers(model, [row]).items()}
        code = "invalid_field" if isinstance(error, ValueError) else "policy_failed"
        logging.warning("The policy failed on one image.", exc_info=error)
        message = f"{type(error).__name__}: {error}"
        refused = {"code": code, "message": message, "field": None}
        return {rows[0][0]: {"success": False, "error": refused}}
    singles = [{name: value[k] for name, value in result.actions.items()} for k in range(len(rows))]
    return {i: _fields(model, actions) for (i, _), actions in zip(rows, singles, strict=True)}


def _fields(model: Model, actions: dict[str, np.ndarray]) -> dict[str, Any]:
    if model.spec.task == _FOOD:
        return {"success": True, "prediction": food.prediction(food.parameters(model.spec, actions))}
    named = manipulation.named_actions(model.spec, actions)
    return {"success": True, "action": named, "terminate": manipulation.terminate(actions)}


def _error(error: ApiError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "field": error.field}


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group


def _define_flags() -> None:
    flags.DEFINE_enum("model", "rt1", sorted(registry.MODELS), "Which model the checkpoint is of.")
    flags.DEFINE_string("checkpoint", None, "Checkpoint folder, or one with best.json.", required=True)
    flags.DEFINE_string("images", None, "Folder of images.", required=True)
    flags.DEFINE_string("out", None, "JSON file to write.", required=True)
    flags.DEFINE_string("csv", None, "file,action,food_type,text,x1,y1,x2,y2; default: all the images.")
    flags.DEFINE_string("action", "", "skewering, scooping or twirling, for every image.")
    flags.DEFINE_string("food_type", "", "For every image.")
    flags.DEFINE_string("text", "", "Instruction in words, for every image.")
    flags.DEFINE_integer("batch_size", 16, "Images in one call of the policy.", 1)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Only flags are taken. Received: {argv[1:]}")
    values = flags.FLAGS
    folder = Path(values.images)
    asked = (values.action, values.food_type, values.text)
    items = items_of_csv(Path(values.csv), *asked) if values.csv else items_of_folder(folder, *asked)
    module = registry.find_model(values.model)
    model = load_model(module.load_policy, Path(values.checkpoint))
    evaluate = module.evaluation_metrics
    failed = run(model, folder, items, Path(values.out), evaluate=evaluate, batch_size=values.batch_size)
    logging.info("%d of %d images answered, in %s.", len(items) - failed, len(items), values.out)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    _define_flags()
    app.run(main)

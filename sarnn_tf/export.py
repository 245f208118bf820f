"""A SARNN as a file that runs without this code: a SavedModel, or TFLite.

``python -m sarnn_tf.export --checkpoint log/clip_run1 --out exported/clip_run1 --format tflite``

The file holds one step: uint8 images (uint16 depth) and joints in rad go in, joints in rad come out;
normalisation and EIPL's mixing of what is measured and what was predicted are inside. It keeps nothing: the
state goes in and comes out. Images must come in the model's size: no other resizing gives OpenCV's very
pixels, and at SARNN's temperatures one of them can move an attention point.

::

    OUT/
      saved_model/ or model.tflite
      export.json                  names, shapes, units, ranges, how to resize, what was checked
      instruction_embeddings.npy   of the training's instructions, for models that are told one

Nothing is published before the written file has answered as the Keras model does, over several steps.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from core import files
from sarnn_tf.exporting.export_check import SHARES, Arrays, Run, compare
from sarnn_tf.exporting.exported_step import PATCHES, TEXT, Array, StepSignature, frozen_step, signature_of
from sarnn_tf.policy_folder import LoadedSarnn, load_checkpoint

SAVED_MODEL, TFLITE = "saved_model", "tflite"
FILES = {SAVED_MODEL: "saved_model", TFLITE: "model.tflite"}
DESCRIPTION, EMBEDDINGS = "export.json", "instruction_embeddings.npy"
SIGNATURE = "serving_default"
TOLERANCE = 1e-3
_ATTEMPTS = 3
# At a low temperature rounding alone moves a point between two pixels that are nearly equal. That is rare, so
# other noise decides; a fault of a conversion shows in all.
_OPENCV = {"area": "INTER_AREA", "linear": "INTER_LINEAR", "nearest": "INTER_NEAREST"}


class ExportError(RuntimeError):
    """The exported file does not answer as the model does; nothing was written."""


def export(
    loaded: LoadedSarnn,
    out: str | Path,
    kind: str = SAVED_MODEL,
    *,
    with_clip: bool = False,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> dict[str, float]:
    """Writes a model's step, checked, atomically.

    Args:
      loaded: the model.
      out: a folder that does not exist yet.
      kind: ``saved_model``, for any number of clients, or ``tflite``, for one.
      with_clip: takes CLIP's image tower in; else patches are an input of models that look through CLIP.
      tolerance: largest difference between the file's and the model's answers; of joints in shares of their
        bounds.
      seed: of the images and joints that they are compared on; where they differ, two more seeds are tried.

    Returns:
      Output -> largest difference found.

    Raises:
      FileExistsError: the folder exists.
      ValueError: another kind, or something that cannot be exported.
      ExportError: the answers differ by more.
    """
    if kind not in FILES:
        raise ValueError(f"format must be one of {sorted(FILES)}. Received: {kind!r}")
    signature = signature_of(loaded.description, loaded.clip, with_clip)
    with files.atomic_folder(out) as temporary:
        path = temporary / FILES[kind]
        if kind == SAVED_MODEL:
            write_saved_model(path, loaded, signature)
            run, clients = saved_model_runner(path), 2
        else:
            write_tflite(path, loaded, signature)
            run, clients = tflite_runner(path), 1
        for attempt in range(_ATTEMPTS):
            differences = compare(run, loaded, signature, clients=clients, seed=seed + attempt)
            worst = max(differences, key=lambda name: differences[name])
            if differences[worst] <= tolerance:
                break
        if not differences[worst] <= tolerance:
            raise ExportError(
                f"The exported file must answer as the model within {tolerance:g}, on noise of any of "
                f"{_ATTEMPTS} seeds; nothing was written. Where only attention points differ, rounding may "
                "have moved one at the model's low temperature: another --seed tells. "
                f"Received: {worst} differs by {differences[worst]:g}"
            )
        checked = {"steps": len(SHARES), "tolerance": tolerance, "largest_differences": differences}
        files.write_json(temporary / DESCRIPTION, described(loaded, signature, kind) | {"checked": checked})
        if loaded.clip is not None:
            np.save(temporary / EMBEDDINGS, loaded.clip.text(loaded.description.instructions))
    return differences


def write_saved_model(
    path: Path, loaded: LoadedSarnn, signature: StepSignature, batch: int | None = None
) -> None:
    """Writes the step as the SavedModel's ``serving_default``."""
    step = frozen_step(loaded, signature, batch)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(tf.Module(), str(path), signatures={SIGNATURE: step}, options=options)


def write_tflite(path: Path, loaded: LoadedSarnn, signature: StepSignature) -> None:
    """Writes the step of one client, of TFLite's own operations alone."""
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(Path(folder), loaded, signature, batch=1)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        path.write_bytes(converter.convert())


def saved_model_runner(path: Path) -> Run:
    """The step of a SavedModel."""
    # The signature holds its SavedModel by a weak reference only.
    module = tf.saved_model.load(str(path))

    def run(arrays: Arrays) -> Arrays:
        tensors = {name: tf.constant(value) for name, value in arrays.items()}
        return {name: x.numpy() for name, x in module.signatures[SIGNATURE](**tensors).items()}

    return run


def tflite_runner(path: Path) -> Run:
    """The step of a TFLite file."""
    with warnings.catch_warnings():
        # It announces its move to another package, which is not installed.
        warnings.filterwarnings("ignore", message="(?s).*tf.lite.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(model_path=str(path))
    step = interpreter.get_signature_runner(SIGNATURE)

    def run(arrays: Arrays) -> Arrays:
        # Answers are views of the interpreter's memory.
        return {name: x.copy() for name, x in step(**arrays).items()}

    return run


def described(loaded: LoadedSarnn, signature: StepSignature, kind: str) -> dict[str, Any]:
    """What one must know to run the file without this code."""
    description, clip = loaded.description, loaded.clip
    batch: int | str = 1 if kind == TFLITE else "n"
    about: dict[str, Any] = {
        "format": kind,
        "file": FILES[kind],
        "signature": SIGNATURE,
        "tensorflow": tf.__version__,
        "model": description.model,
        "inputs": _arrays(signature.inputs, batch),
        "outputs": _arrays(signature.outputs, batch),
        "state": _arrays(signature.state, batch),
        "use": "Every step takes inputs and state, and answers outputs and the next step's state under the "
        "same names. The state before an episode's first step is zeros. A joint that is to be seen as it was "
        "predicted, whatever input_param, such as EIPL's gripper: hand its last answer in as measured.",
        "rate_hz": description.rate_hz,
        "images": {
            m.name: {
                "height": m.size[0],
                "width": m.size[1],
                "channels": "RGB" if m.channels == 3 else m.channels,
                "resize": f"cv2.resize(image, ({m.size[1]}, {m.size[0]}), "
                f"interpolation=cv2.{_OPENCV[m.interpolation]})",
                "full_scale": m.full_scale,
                "normalised": "min(value / full_scale, 1), inside",
            }
            for m in description.modalities
        },
        "joints": {
            "names": list(description.joint_names),
            "unit": "rad",
            "minima": list(description.joint_bounds[0]),
            "maxima": list(description.joint_bounds[1]),
            "vmin": description.vmin,
            "vmax": description.vmax,
            "normalised": "minima to vmin, maxima to vmax, inside; a joint whose bounds are equal: "
            "value - minimum + vmin",
        },
        "instructions": list(description.instructions) if description.uses_text else [],
    }
    if clip is not None:
        about["instruction_embeddings"] = f"{EMBEDDINGS}: row i is the {TEXT} of instruction i"
        about["clip"] = {
            "fingerprint": description.clip_fingerprint,
            "inside": description.use_clip and not any(a.name == PATCHES for a in signature.inputs),
            "image_size": clip.config.vision.image_size,
            "mean": list(clip.preprocessing.mean),
            "std": list(clip.preprocessing.std),
            "patches": "of the image in 0 to 1: resized bilinearly (half-pixel centres, no antialias), "
            "(x - mean) / std, all tokens through ln_post and the projection, class token dropped",
        }
    return about


def _arrays(arrays: Sequence[Array], batch: int | str) -> dict[str, Any]:
    return {a.name: {"shape": [batch, *a.shape], "dtype": a.dtype, "meaning": a.meaning} for a in arrays}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 where something could not be read, written or did not agree."""
    parser = argparse.ArgumentParser(
        prog="python -m sarnn_tf.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", required=True, help="checkpoint folder, or a run's folder (its best)")
    parser.add_argument("--clip", help="folder of the frozen CLIP; default: clip/ beside the checkpoint")
    parser.add_argument("--out", required=True, help="folder to write; it must not exist")
    parser.add_argument("--format", choices=sorted(FILES), default=SAVED_MODEL, help=f"default {SAVED_MODEL}")
    parser.add_argument(
        "--with_clip",
        action="store_true",
        help="take CLIP's image tower in; default: its patches are an input",
    )
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"default {TOLERANCE:g}")
    parser.add_argument("--seed", type=int, default=0, help="of what the file is checked on (default 0)")
    options = parser.parse_args(arguments)
    try:
        differences = export(
            load_checkpoint(options.checkpoint, options.clip),
            options.out,
            options.format,
            with_clip=options.with_clip,
            tolerance=options.tolerance,
            seed=options.seed,
        )
    except (ValueError, OSError, ExportError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{options.out}: largest difference from the model {max(differences.values()):.2g}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

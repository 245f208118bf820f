"""A sentence encoder of no sense as a SavedModel: it answers one-hot vectors of the texts' hashes."""

from pathlib import Path

import tensorflow as tf

_TEXTS = tf.TensorSpec([None], tf.string)


class _Hashing(tf.Module):
    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self._size = size
        self._scale = tf.Variable(scale)

    def embed(self, texts: tf.Tensor) -> tf.Tensor:
        return self._scale * tf.one_hot(tf.strings.to_hash_bucket_fast(texts, self._size), self._size)


class _Callable(_Hashing):
    @tf.function(input_signature=[_TEXTS])
    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        return self.embed(texts)


class _Dictionary(_Hashing):
    @tf.function(input_signature=[_TEXTS])
    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": self.embed(texts), "lengths": tf.strings.length(texts)}


class _Unnamed(_Hashing):
    @tf.function(input_signature=[_TEXTS])
    def __call__(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"a": self.embed(texts), "b": self.embed(texts)}


class _Several(_Hashing):
    @tf.function(input_signature=[_TEXTS])
    def __call__(self, texts: tf.Tensor) -> list[tf.Tensor]:
        return [self.embed(texts)]


class _Numbers(_Hashing):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, numbers: tf.Tensor) -> tf.Tensor:
        return self.embed(tf.strings.as_string(numbers))


class _Silent(_Hashing):
    """Neither callable nor with a signature."""


_KINDS = {
    "callable": _Callable,
    "dictionary": _Dictionary,
    "unnamed": _Unnamed,
    "several": _Several,
    "numbers": _Numbers,
    "silent": _Silent,
}


def save(folder: Path, kind: str = "callable", *, size: int = 512, scale: float = 1.0) -> Path:
    """Writes the SavedModel; kind ``signature`` offers serving_default only, as older models do."""
    if kind == "signature":
        model = _Hashing(size, scale)
        function = tf.function(lambda text: {"default": model.embed(text)})
        signature = function.get_concrete_function(tf.TensorSpec([None], tf.string, "text"))
        tf.saved_model.save(model, str(folder), signatures=signature)
    else:
        tf.saved_model.save(_KINDS[kind](size, scale), str(folder))
    return folder

"""CLIP: an image tower and a text tower that meet in one space (Radford et al. 2021)."""

import math
import zlib

import tensorflow as tf

from clip_tf.model_config import ClipConfig
from clip_tf.text_tower import TextTower
from clip_tf.transformer import Policy
from clip_tf.vision_tower import VisionTower
from core.named_variables import named_variables

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)


class ClipModel(tf.keras.Model):
    """Both towers and the scale of their products.

    The variables' attribute paths are OpenCLIP's keys with slashes, those of the text tower below
    ``text/``; ``openclip_variables`` gives them by key.

    Attributes:
      config: the configuration.
      visual: the image tower.
      text: the text tower.
      logit_scale: float32 scalar, the logarithm of the scale of cosines.
    """

    def __init__(self, config: ClipConfig, dtype: Policy = "float32", seed: int | None = 0) -> None:
        """Makes the model.

        Args:
          config: the configuration.
          dtype: Keras policy, by name: ``float32``; ``bfloat16`` or ``float16`` for variables and
            computation; ``mixed_bfloat16`` or ``mixed_float16`` for the computation alone.
          seed: of the initial weights; None leaves matrices at zero, for a model that will be loaded.
        """
        super().__init__(dtype=dtype)
        policy = self.dtype_policy
        self.config = config
        self.visual = VisionTower(config, policy)
        self.text = TextTower(config, policy)
        self.logit_scale = self.add_weight(
            "logit_scale",
            [],
            dtype="float32",
            initializer=tf.keras.initializers.Constant(INITIAL_LOGIT_SCALE),
            experimental_autocast=False,
        )
        self.built = True
        if seed is not None:
            initialize(self, seed)

    @property
    def dtype_policy(self) -> tf.keras.mixed_precision.Policy:
        """What variables are stored and computed in."""
        return self._dtype_policy

    def encode_image(self, images: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Features [b, embed_dim] of images [b, s, s, 3], and intermediates: see ``VisionTower.call``."""
        return self.visual(tf.convert_to_tensor(images))

    def encode_text(
        self, ids: tf.Tensor, whole_context: bool = False
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Features [b, embed_dim] of ids [b, context_length], and intermediates: see ``TextTower.call``."""
        return self.text(tf.convert_to_tensor(ids, tf.int32), whole_context=whole_context)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """(images, ids) -> their features, unit length, float32, [b, embed_dim] each."""
        images, ids = inputs
        return normalize(self.encode_image(images)[0]), normalize(self.encode_text(ids)[0])


def normalize(features: tf.Tensor) -> tf.Tensor:
    """Features over their length, [b, d] -> [b, d] float32."""
    features = tf.cast(features, tf.float32)
    return features / tf.norm(features, axis=-1, keepdims=True)


def openclip_variables(model: ClipModel) -> dict[str, tf.Variable]:
    """The variables by OpenCLIP's keys, e.g. ``visual.transformer.resblocks.0.attn.in_proj_weight``.

    Matrices are [in, out] and the patch kernel [h, w, in, out]; ``weights.layout`` converts.
    """
    named = named_variables(model)
    return {name.replace("/", ".").removeprefix("text."): variable for name, variable in named.items()}


def initialize(model: ClipModel, seed: int) -> None:
    """Draws initial weights by the rule of CLIP (section 2.5 and its code), for both towers.

    The same seed gives the same weights, whatever else was made before.
    """
    for key, variable in openclip_variables(model).items():
        stddev = _initial_stddev(key, model.config)
        if stddev:
            draw = tf.random.stateless_normal(
                variable.shape, [seed, zlib.crc32(key.encode())], stddev=stddev, dtype=tf.float32
            )
            variable.assign(tf.cast(draw, variable.dtype))


def _initial_stddev(key: str, config: ClipConfig) -> float:
    """Zero where the value that the layer made is right."""
    tower = config.vision if key.startswith("visual.") else config.text
    out = (2 * tower.layers) ** -0.5
    ends = {
        "in_proj_weight": tower.width**-0.5,
        "out_proj.weight": tower.width**-0.5 * out,
        "c_fc.weight": (2 * tower.width) ** -0.5,
        "c_proj.weight": tower.width**-0.5 * out,
        "conv1.weight": (3 * config.vision.patch_size**2) ** -0.5,
        "token_embedding.weight": 0.02,
        "visual.class_embedding": tower.width**-0.5,
        "visual.positional_embedding": tower.width**-0.5,
        "positional_embedding": 0.01,
        "proj": tower.width**-0.5,
        "text_projection": tower.width**-0.5,
    }
    return next((value for end, value in ends.items() if key == end or key.endswith("." + end)), 0.0)

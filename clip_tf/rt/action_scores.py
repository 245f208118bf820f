"""How well each language action fits an image and an instruction: the two fusions of CLIP-RT.

``training`` is what the objective scores: the unit-length features of image and instruction are added, the
logit is exp(τ) times the product with the action's unit-length feature, the probability its sigmoid.
``readme`` is the published snippet: the features are added as they are, the sum is brought to unit length,
and the probability is the sigmoid of the cosine. It can rank otherwise, and its probabilities lie in
[0.27, 0.73].
"""

import tensorflow as tf

from clip_tf.rt.objective import unit_length

TRAINING, README = "training", "readme"
FUSIONS = (TRAINING, README)


def check_fusion(fusion: str) -> str:
    """The name itself.

    Raises:
      ValueError: there is no such fusion.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"fusion must be one of {FUSIONS}. Received: {fusion!r}")
    return fusion


def action_logits(
    image: tf.Tensor,
    instruction: tf.Tensor,
    actions: tf.Tensor,
    log_scale: tf.Tensor,
    fusion: str = TRAINING,
) -> tf.Tensor:
    """Logits float32 [b, n]; their sigmoid is the probability, and they rank the actions.

    Args:
      image, instruction: features as the towers give them, [b, d].
      actions: features of the n actions, unit-length float32 [n, d].
      log_scale: τ; ``readme`` does not use it.
      fusion: ``training`` or ``readme``.

    Raises:
      ValueError: an unknown fusion.
    """
    if check_fusion(fusion) == TRAINING:
        context = unit_length(image) + unit_length(instruction)
        scale = tf.exp(tf.cast(tf.reshape(log_scale, []), tf.float32))
        return scale * tf.matmul(context, actions, transpose_b=True)
    context = unit_length(tf.cast(image, tf.float32) + tf.cast(instruction, tf.float32))
    return tf.matmul(context, actions, transpose_b=True)

"""The variables of a trackable object by the names that object-graph checkpoints give them."""

import collections

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)

# isort: split
import tensorflow as tf


def named_variables(root: tf.Module, prefix: str = "") -> dict[str, tf.Variable]:
    """Names every variable by the shortest path of attributes that leads to it.

    ``tf.train.Checkpoint`` names its values so (without the suffix ``/.ATTRIBUTES/VARIABLE_VALUE``), with
    dots and slashes inside a name escaped as it does.

    Args:
      root: a Keras layer, a TF-Agents agent, a ``tf.Module``.
      prefix: put before every name, e.g. ``agent/_actor_network``.

    Returns:
      name -> variable, in breadth-first order.
    """
    view = tf.train.TrackableView(root)
    found: dict[str, tf.Variable] = {}
    seen = {id(root)}
    queue = collections.deque([(prefix, root)])
    while queue:
        path, node = queue.popleft()
        if isinstance(node, tf.Variable):
            found[path] = node
        for name, child in view.children(node).items():
            if id(child) not in seen:
                seen.add(id(child))
                escaped = name.replace(".", "..").replace("/", ".S")
                queue.append((f"{path}/{escaped}" if path else escaped, child))
    return found

"""On which devices a model trains."""

import gin
import tensorflow as tf


@gin.configurable
def make_strategy(name: str = "default") -> tf.distribute.Strategy:
    """The distribution strategy of that name. Trainables build variables and steps in its scope.

    Args:
      name: ``default`` (TensorFlow places on the first GPU, else the CPU), ``mirrored`` (every GPU of
        this machine holds a copy and takes a share of each batch), or one device such as ``cpu:0`` or
        ``gpu:1``.

    Raises:
      ValueError: the name is unknown, there is no such device, or ``mirrored`` finds no GPU.
    """
    if name == "default":
        return tf.distribute.get_strategy()
    devices = {
        f"{d.device_type}:{d.name.rpartition(':')[2]}".lower() for d in tf.config.list_logical_devices()
    }
    if name == "mirrored":
        gpus = sorted(d for d in devices if d.startswith("gpu:"))
        if not gpus:
            raise ValueError(
                f"strategy 'mirrored' needs at least one GPU. Received: devices {sorted(devices)}"
            )
        return tf.distribute.MirroredStrategy([f"/{gpu}" for gpu in gpus])
    device = name.lower().removeprefix("/")
    if device in devices:
        return tf.distribute.OneDeviceStrategy(f"/{device}")
    raise ValueError(
        f"strategy must be 'default', 'mirrored' or one of the devices {sorted(devices)}. Received: {name!r}"
    )

"""Image augmentation that moves the label with the image.

Every function is pure: what is drawn depends on a stateless seed alone. Images are float32 in [0, 1],
[H, W, 3], or [T, H, W, 3] for the frames of one window, which are all changed alike. Labels are points
(x1, y1, x2, y2, …) in fractions of width and height, x to the right, y down.
"""

import dataclasses

import gin
import tensorflow as tf

# RT-1 pads 256×320 images by 20 rows and 50 columns on each side and crops back at a random offset.
RT1_SHIFT = (20 / 256, 50 / 320)

# Weights of red, green and blue in a grey value (ITU-R BT.601).
_GREY = (0.299, 0.587, 0.114)

# Each effect draws from a stream of its own, so that switching one on changes no other's draws.
_SHIFT, _ROTATION, _BRIGHTNESS, _CONTRAST, _SATURATION, _SHARPNESS = range(6)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How strongly to augment; the default of every strength is off, which is the identity bit for bit.

    Attributes:
      shift: largest shift, as fractions of (height, width); what comes in is black. ``RT1_SHIFT`` has the
        official values.
      keep_labels_inside: draws only shifts that leave all labelled points in [0, 1], so that a token
        label needs no clipping and what is asked for stays in the picture. Without it labels may leave
        [0, 1] by ``shift``; regression takes them as they are, token labels are clipped.
      rotate_90: turns by 0, 90, 180 or 270 degrees, each as often; square images with a label only.
      brightness: adds one number of [-b, b].
      contrast: scales distances from the image's mean grey by a factor of [1-c, 1+c].
      saturation: scales distances from each pixel's grey by a factor of [1-s, 1+s].
      sharpness: scales distances from a smoothed image by a factor of [1-s, 1+s].
    """

    shift: tuple[float, float] = (0.0, 0.0)
    keep_labels_inside: bool = True
    rotate_90: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    sharpness: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shift", tuple(float(s) for s in self.shift))  # gin gives lists.
        if len(self.shift) != 2 or not all(0 <= s < 1 for s in self.shift):
            raise ValueError(f"shift must be two fractions in [0, 1). Received: {self.shift}")
        for name in ("brightness", "contrast", "saturation", "sharpness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1]. Received: {getattr(self, name)}")

    @property
    def is_off(self) -> bool:
        """Whether nothing would be changed."""
        strengths = (*self.shift, self.brightness, self.contrast, self.saturation, self.sharpness)
        return not (self.rotate_90 or any(strengths))


# What gin configures is this, so that ``Augmentation()`` in code is always off.
make_augmentation = gin.external_configurable(Augmentation, "Augmentation")


def augment(
    image: tf.Tensor, label: tf.Tensor | None, seed: tf.Tensor, settings: Augmentation
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Draws and applies every effect that is on.

    Args:
      image: float32 [H, W, 3] or [T, H, W, 3] in [0, 1], H and W known.
      label: float32 [2k], k points; None where the label does not lie in the image (robot actions).
      seed: integer [2].
      settings: strengths.

    Returns:
      Image and label, of the same shapes; the image in [0, 1].

    Raises:
      ValueError: rotation without a label (an action would no longer fit) or of an image not square.
    """
    if settings.rotate_90 and label is None:
        raise ValueError("rotate_90 needs a label that turns with the image. Received: label=None")
    if any(settings.shift):
        offset = draw_shift(_stream(seed, _SHIFT), image.shape[-3:-1], label, settings)
        image, label = shift(image, label, offset)
    if settings.rotate_90 and label is not None:
        quarter_turns = tf.random.stateless_uniform(
            [], _stream(seed, _ROTATION), minval=0, maxval=4, dtype=tf.int32
        )
        image, label = rotate_90(image, label, quarter_turns)
    if settings.brightness:
        image = adjust_brightness(image, _draw(seed, _BRIGHTNESS, 0.0, settings.brightness))
    if settings.contrast:
        image = adjust_contrast(image, _draw(seed, _CONTRAST, 1.0, settings.contrast))
    if settings.saturation:
        image = adjust_saturation(image, _draw(seed, _SATURATION, 1.0, settings.saturation))
    if settings.sharpness:
        image = adjust_sharpness(image, _draw(seed, _SHARPNESS, 1.0, settings.sharpness))
    return image, label


def draw_shift(
    seed: tf.Tensor, size: tuple[int, int], label: tf.Tensor | None, settings: Augmentation
) -> tf.Tensor:
    """Draws whole pixels (down, right), each as likely, as int32 [2].

    RT-1 draws one offset for a whole batch call; here every image, or window of images, has its own.
    """
    offsets = []
    for axis, (pixels, fraction) in enumerate(zip(size, settings.shift, strict=True)):
        most = tf.constant(int(pixels * fraction), tf.int32)
        lowest, highest = -most, most
        if label is not None and settings.keep_labels_inside:
            points = label[1 - axis :: 2] * pixels  # y for rows, x for columns.
            room_before = tf.cast(tf.floor(tf.reduce_min(points)), tf.int32)
            room_after = tf.cast(tf.floor(pixels - tf.reduce_max(points)), tf.int32)
            lowest = tf.maximum(lowest, tf.minimum(0, -room_before))
            highest = tf.minimum(highest, tf.maximum(0, room_after))
        stream = tf.random.fold_in(seed, axis)
        offsets.append(
            tf.random.stateless_uniform([], stream, minval=lowest, maxval=highest + 1, dtype=tf.int32)
        )
    return tf.stack(offsets)


def shift(image: tf.Tensor, label: tf.Tensor | None, offset: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Moves the image's content by ``offset`` = (down, right) pixels, int32 [2]; what comes in is zero.

    The same as RT-1's padding with zeros and cropping back.
    """
    height, width = image.shape[-3], image.shape[-2]
    rows, columns = tf.range(height) - offset[0], tf.range(width) - offset[1]
    inside = tf.logical_and(
        tf.logical_and(rows >= 0, rows < height)[:, None],
        tf.logical_and(columns >= 0, columns < width)[None, :],
    )
    moved = tf.gather(image, tf.clip_by_value(rows, 0, height - 1), axis=-3)
    moved = tf.gather(moved, tf.clip_by_value(columns, 0, width - 1), axis=-2)
    moved = tf.where(inside[..., None], moved, tf.zeros_like(moved))
    if label is None:
        return moved, None
    fractions = tf.cast(offset, label.dtype) / tf.constant([height, width], label.dtype)
    return moved, label + tf.tile(fractions[::-1], [label.shape[-1] // 2])


def rotate_90(image: tf.Tensor, label: tf.Tensor, quarter_turns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Turns image and points counter-clockwise by ``quarter_turns`` × 90 degrees.

    A point (x, y) goes to (y, 1 - x) with each quarter turn, which is exact to rounding.

    Raises:
      ValueError: the image is not square.
    """
    if image.shape[-3] != image.shape[-2]:
        raise ValueError(f"Only square images can be turned by 90 degrees. Received: shape={image.shape}")
    x, y = label[0::2], label[1::2]
    points = tf.stack(
        [tf.stack(p, axis=-1) for p in ((x, y), (y, 1 - x), (1 - x, 1 - y), (1 - y, x))], axis=0
    )
    quarter_turns = tf.math.floormod(tf.convert_to_tensor(quarter_turns, tf.int32), 4)
    turned = tf.image.rot90(image, quarter_turns)
    return tf.ensure_shape(turned, image.shape), tf.reshape(points[quarter_turns], label.shape)


def adjust_brightness(image: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """Adds ``delta``, clipped to [0, 1]."""
    return _clip(image + delta)


def adjust_contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Scales distances from the mean grey of the whole image (or window); clipped to [0, 1]."""
    mean = tf.reduce_mean(_grey(image))
    return _clip(mean + factor * (image - mean))


def adjust_saturation(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Scales each pixel's distance from its grey value; 0 gives a grey image. Clipped to [0, 1]."""
    grey = _grey(image)
    return _clip(grey + factor * (image - grey))


def adjust_sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Scales distances from the image smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; 0 gives that one.

    The outermost pixels, which have no whole neighbourhood, stay as they are. Clipped to [0, 1].
    """
    inner = image[..., 1:-1, 1:-1, :]
    # Sums of slices: a depthwise convolution is several times slower on small images.
    rows = image[..., :-2, :, :] + image[..., 1:-1, :, :] + image[..., 2:, :, :]
    squares = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
    smooth = (squares + 4 * inner) / 13
    around = [[0, 0]] * (image.shape.rank - 3) + [[1, 1], [1, 1], [0, 0]]
    return _clip(image + (factor - 1) * tf.pad(inner - smooth, around))


def example_seed(seed: int, epoch: int, index: tf.Tensor) -> tf.Tensor:
    """The seed [2] of one example in one epoch: another in each epoch, the same after a resume."""
    return tf.random.fold_in(tf.constant([seed, epoch], tf.int64), tf.cast(index, tf.int64))


def _stream(seed: tf.Tensor, effect: int) -> tf.Tensor:
    return tf.random.fold_in(seed, effect)


def _draw(seed: tf.Tensor, effect: int, middle: float, strength: float) -> tf.Tensor:
    return tf.random.stateless_uniform(
        [], _stream(seed, effect), minval=middle - strength, maxval=middle + strength
    )


def _grey(image: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(image * tf.constant(_GREY, image.dtype), axis=-1, keepdims=True)


def _clip(image: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(image, 0.0, 1.0)

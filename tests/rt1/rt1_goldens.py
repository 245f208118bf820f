"""The recipe of RT-1's recordings: inputs from seeds, stand-in weights by name (golden/README_rt1.md)."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from core.named_variables import named_variables
from rt1 import specs
from rt1.checkpoints.dialects import NETWORK
from rt1.transformer_network import EMBEDDING, IMAGE, TransformerNetwork
from tests.golden.golden_weights import fill
from tests.golden_files import manifest


def image(seed: int, height: int = 256, width: int = 320) -> np.ndarray:
    """uint8 [height, width, 3]."""
    rng = np.random.Generator(np.random.Philox(1000 + seed))
    base = rng.integers(0, 256, size=(1, 1, 3))
    blocks = rng.integers(-96, 97, size=(-(-height // 64), -(-width // 64), 3))
    blocks = np.repeat(np.repeat(blocks, 64, axis=0), 64, axis=1)[:height, :width]
    noise = rng.integers(-16, 17, size=(height, width, 3))
    return np.clip(base + blocks + noise, 0, 255).astype(np.uint8)


def embedding(seed: int, size: int = 512) -> np.ndarray:
    """float32 [size], unit norm."""
    x = np.random.Generator(np.random.Philox(5000 + seed)).standard_normal(size)
    return (x / np.sqrt(np.sum(x * x))).astype(np.float32)


def fill_network(network: TransformerNetwork) -> TransformerNetwork:
    """Makes the variables and sets them to the stand-in weights."""
    network.create_variables()
    for name, variable in named_variables(network, NETWORK).items():
        variable.assign(tf.cast(fill(name, variable.shape), variable.dtype))
    return network


def network_of(config: dict) -> TransformerNetwork:
    """The network of an ``rt1_*`` recording."""
    return fill_network(
        TransformerNetwork(
            specs.observation_spec(),
            specs.action_spec(specs.OFFICIAL_ACTIONS),
            **{
                k: config[k]
                for k in (
                    "num_layers",
                    "layer_size",
                    "num_heads",
                    "feed_forward_size",
                    "time_sequence_length",
                    "token_embedding_size",
                    "vocab_size",
                    "num_image_tokens",
                )
            },
        )
    )


def config_of(recording: Path) -> dict:
    """The ``.config.json`` beside a recording."""
    return json.loads(recording.with_suffix(".config.json").read_text())


def windows(config: dict, sequences: int, embedding_seeds: list[int]) -> dict[str, np.ndarray]:
    """Observations [sequences, t, …]: images of consecutive seeds, one embedding a sequence."""
    t = config["time_sequence_length"]
    first = config["first_image_seed"]
    images = np.stack([image(first + i) for i in range(sequences * t)])
    embeddings = np.stack([embedding(s) for s in embedding_seeds])
    return {
        IMAGE: images.reshape(sequences, t, *images.shape[1:]),
        EMBEDDING: np.repeat(embeddings[:, None], t, axis=1),
    }


def recorded_actions(recording: np.lib.npyio.NpzFile, prefix: str) -> dict[str, np.ndarray]:
    """The arrays ``prefix + action name`` by action name."""
    return {k.removeprefix(prefix): recording[k] for k in recording.files if k.startswith(prefix)}


def official_manifest() -> dict:
    """Keys and shapes of the released checkpoints."""
    return json.loads(manifest("official_manifest.json").read_text())

"""RT-1's policy step: one transformer pass for all action tokens, beside one pass for each of them.

Both run in this process, compiled, on the same weights and frames, in turns. The released code computes
the frame's image tokens once and then, for each of the eleven action tokens, a whole pass of the
transformer over the window in which the tokens found so far stand; their embeddings are zeroed, which is
why one pass gives the same. Here the zero by which they are multiplied is an argument of the compiled
function, so that the compiler cannot see it and every pass depends on the one before: none is pruned.

    python -m benchmarks.rt1_policy_step [--json] [--repeats 20] [--batch 1]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping

from core import legacy_keras as _legacy_keras  # noqa: F401  (before TensorFlow)

# isort: split
import numpy as np
import tensorflow as tf

from rt1 import specs
from rt1.transformer_network import EMBEDDING, IMAGE, TransformerNetwork

State = Mapping[str, tf.Tensor]


def make_network(seed: int = 0) -> TransformerNetwork:
    """The official network with seeded weights; FiLM's too, which would start at zero."""
    tf.keras.utils.set_random_seed(seed)
    network = TransformerNetwork(specs.observation_spec(), specs.action_spec(specs.OFFICIAL_ACTIONS))
    network.create_variables()
    rng = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        if "projection" in variable.name or "film" in variable.name:
            variable.assign(rng.normal(0.0, 0.02, variable.shape).astype(np.float32))
    return network


def make_original_step(network: TransformerNetwork) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """A compiled step of eleven passes, as the released code makes it.

    It takes the frame, the state before it (of a full window) and the zero, and gives the tokens int32
    [b, 11] and the logits of every pass [b, 11, vocab_size].
    """
    window, images = network.time_sequence_length, network.num_image_tokens
    actions, size = network.action_tokenizer.tokens_per_action, network._token_embedding_size
    mask = tf.constant(network._mask)

    @tf.function
    def step(observation: State, state: State, zero: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        frame = {k: observation[k][:, None] for k in (IMAGE, EMBEDDING)}
        new_tokens, _ = network.tokenize_images(frame)
        context = tf.roll(state["context_image_tokens"][:, :, :, 0], -1, axis=1)
        context = tf.concat([context[:, :-1], new_tokens], axis=1)
        tokens = state["action_tokens"][:, :, :, 0, 0]
        found, passes = [], []
        for k in range(actions):
            embedded = network._action_token_emb(tf.one_hot(tokens, network.vocab_size)) * zero
            sequence = tf.concat([context, embedded], axis=2)
            sequence = tf.reshape(sequence, [-1, window * (images + actions), size])
            output, _ = network._transformer(sequence, mask)
            logits = output[:, (window - 1) * (images + actions) + images + k - 1]
            token = tf.argmax(logits, axis=-1, output_type=tf.int32)
            found.append(token)
            passes.append(logits)
            here = np.zeros((1, window, actions), bool)
            here[0, -1, k] = True
            tokens = tf.where(here, token[:, None, None], tokens)
        return tf.stack(found, axis=1), tf.stack(passes, axis=1)

    return step


def full_window(network: TransformerNetwork, frames: tf.Tensor, embedding: tf.Tensor) -> State:
    """The state after the frames [b, t, h, w, 3] but the last, so that the next step has a full window."""
    b = frames.shape[0]
    state = {k: tf.zeros([b, *s.shape], s.dtype) for k, s in network.state_spec.items()}
    for t in range(network.time_sequence_length):
        _, state, _ = network.step({IMAGE: frames[:, t], EMBEDDING: embedding}, state)
    return state


def measure(
    repeats: int, batch: int, network: TransformerNetwork | None = None
) -> dict[str, float | bool | int]:
    """Times both in turns; medians in milliseconds. None takes the official network."""
    network = network or make_network()
    shapes = {k: network.input_tensor_spec[k].shape for k in (IMAGE, EMBEDDING)}
    rng = np.random.default_rng(1)
    window = network.time_sequence_length
    frames = rng.integers(0, 256, (batch, window + 1, *shapes[IMAGE]), dtype=np.uint8)
    embedding = rng.normal(size=(batch, *shapes[EMBEDDING])).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    frames, embedding = tf.constant(frames), tf.constant(embedding)
    state = full_window(network, frames[:, :-1], embedding)
    observation = {IMAGE: frames[:, -1], EMBEDDING: embedding}

    @tf.function
    def ours_step(observation: State, state: State) -> tuple[tf.Tensor, tf.Tensor]:
        logits, _, _ = network.step(observation, state)
        return network.tokens(logits), logits

    original_step, zero = make_original_step(network), tf.zeros([])
    sides: dict[str, Callable[[], tuple[tf.Tensor, tf.Tensor]]] = {
        "ours": lambda: ours_step(observation, state),
        "original": lambda: original_step(observation, state, zero),
    }
    answers = {name: side() for name, side in sides.items()}  # Compiles.
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            began = time.perf_counter()
            side()[1].numpy()
            times[name].append(1000 * (time.perf_counter() - began))
    ours, original = (statistics.median(times[name]) for name in sides)
    (our_tokens, our_logits), (their_tokens, their_logits) = answers["ours"], answers["original"]
    return {
        "ours_ms": round(ours, 2),
        "original_ms": round(original, 2),
        "ratio": round(original / ours, 3),
        "tokens_equal": bool(tf.reduce_all(our_tokens == their_tokens)),
        "largest_logit_difference": float(tf.reduce_max(tf.abs(our_logits - their_logits))),
        "repeats": repeats,
        "batch": batch,
    }


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a sentence")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    found = measure(options.repeats, options.batch)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(
            f"one pass {found['ours_ms']} ms, eleven passes {found['original_ms']} ms: "
            f"{found['ratio']} times as fast; tokens {'agree' if found['tokens_equal'] else 'DIFFER'} "
            f"(largest difference of a logit {found['largest_logit_difference']:.1e})\n"
        )


if __name__ == "__main__":
    main()

"""A small CLIP-SARNN learns real camera and GelSight frames by heart, with CLIP and without.

The bags are real pixels in a made recording: a BridgeData arm, GelSight frames, a made depth. Two episodes
of eight steps say nothing of what it generalises; they say that every modality's next image, and the joints,
can be followed.
"""

import re

import pytest

from episodes import convert
from sarnn_tf.data import make_prepared, make_source
from sarnn_tf.motion.rollout import Runner, squared_errors, training_mean
from sarnn_tf.policy_folder import load_checkpoint
from tests.conftest import FIGURE
from tests.sarnn_tf.training_runs import ALL_MODALITIES, train
from tests.shared_data import shared

NAMES = ("image", "depth", "gelsight_left", "gelsight_right")
SETTINGS = (
    ALL_MODALITIES,
    "sarnn_tf.data.make_parts.validate_on_training = True",
    "LoopSettings.validate_every_epochs = 100",
    "sarnn_tf.make_adamw.learning_rate = 3e-3",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    bags = shared("data/bags/recomposed_real_pixels").glob("*.bag")
    topics = [f"--topic=gelsight_{side}=/gelsight/{side}/*" for side in ("left", "right")]
    arguments = ["--out", str(folder), "--name=real", "--splits=train=1", "--task=put it there", *topics]
    assert convert.main([*map(str, sorted(bags)), *arguments]) == 0
    return folder / "real"


@pytest.mark.heavy
@pytest.mark.parametrize("flag", ["--nono_clip", "--no_clip"])
def test_real_frames_are_followed(tmp_path, record_property, data, flag):
    result = train(
        tmp_path,
        "--model=clip_sarnn",
        "--config_file=configs/clip_sarnn_tiny.gin",
        f"--data_dir={data}",
        "--tag=real",
        "--epoch=400",
        "--stdev=0",
        flag,
        *(f"--gin_bindings={binding}" for binding in SETTINGS),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    run = tmp_path / "log" / "real"
    assert re.search(r"validation/loss", result.stderr)

    loaded = load_checkpoint(run)
    assert loaded.description.use_clip == (flag != "--no_clip")
    prepared = make_prepared(
        make_source(data), loaded.description.modalities, loaded.clip, tmp_path / "prepared"
    )
    episodes = [prepared.episode(i) for i in range(len(prepared))]
    mean = training_mean(((e.images, e.joints) for e in episodes), loaded.description)
    runner = Runner(loaded)
    for episode in episodes:
        errors = squared_errors(runner.run(episode.images, episode.joints, episode.instruction), mean)
        joints = {who: float(e["joints"].mean()) for who, e in errors.items()}
        images = {who: e["images"] for who, e in errors.items()}
        lines = [f"{flag} {episode.id}: mean squared errors of the next", "joints: " + _text(joints)]
        lines += [f"{name}: " + _text({who: of[name] for who, of in images.items()}) for name in NAMES]
        record_property(FIGURE, "\n  ".join(lines))
        # Who knows the mean of all steps and nothing else follows nothing.
        assert joints["model"] < 0.1 * joints["mean"]
        for name in NAMES:
            assert images["model"][name] < max(0.75 * images["mean"][name], 2e-3), name


def _text(errors):
    return ", ".join(f"{who} {value:.5f}" for who, value in errors.items())

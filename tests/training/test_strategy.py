"""Choosing devices by name."""

import types

import pytest
import tensorflow as tf

from training.strategy import make_strategy


def test_default_places_as_tensorflow_does() -> None:
    assert make_strategy("default") is tf.distribute.get_strategy()


@pytest.mark.parametrize("name", ["cpu:0", "CPU:0", "/cpu:0"])
def test_one_device_by_name(name: str) -> None:
    strategy = make_strategy(name)
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    with strategy.scope():
        assert tf.Variable(1.0).device.lower().endswith("cpu:0")


@pytest.mark.parametrize("name", ["gpu:7", "tpu", "", "mirror"])
def test_what_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'default', 'mirrored' or .*'cpu:0'.*Received: '{name}'"):
        make_strategy(name)


def _machine(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    devices = [
        types.SimpleNamespace(name=f"/device:{name}", device_type=name.partition(":")[0]) for name in names
    ]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: devices)


def test_mirrored_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, "CPU:0")
    with pytest.raises(ValueError, match="'mirrored' needs at least one GPU.*cpu:0"):
        make_strategy("mirrored")


def test_mirrored_takes_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, "CPU:0", "GPU:0", "GPU:1")
    taken: list[list[str]] = []
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", taken.append)
    make_strategy("mirrored")
    assert taken == [["/gpu:0", "/gpu:1"]]

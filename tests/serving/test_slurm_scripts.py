"""The Slurm scripts, run by bash on stand-ins for the programs that they start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "slurm_scripts"
# Notes its arguments; runs until TERM where there is a file "wait", and saves then, which lasts until there
# is a file "saved"; exits as the file "status" says.
PYTHON = """
echo "python $*" >> calls
save() {
  trap "" TERM
  while [ -e wait ] && [ ! -e saved ]; do sleep 0.02; done
  echo saved >> calls
  exit 143
}
if [ -e wait ]; then
  trap save TERM
  touch started
  while true; do sleep 0.05; done
fi
exit $(cat status 2>/dev/null || echo 0)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with programs that note how they were called."""
    for name, text in {
        "scripts/setup": "echo setup >> calls",
        ".venv/bin/python": PYTHON,
        "bin/scontrol": 'echo "scontrol $*" >> calls',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    return tmp_path


def _environment(checkout: Path, variables: dict[str, str]) -> dict[str, str]:
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "SLURM_SUBMIT_DIR": str(checkout), "SLURM_JOB_ID": "7", **variables}


def run(script: str, checkout: Path, **variables: str) -> tuple[int, list[str], str]:
    done = subprocess.run(
        ["bash", str(SCRIPTS / script)],
        env=_environment(checkout, variables),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    calls = checkout / "calls"
    return done.returncode, calls.read_text().splitlines() if calls.exists() else [], done.stderr


def test_training_flags(checkout: Path) -> None:
    status, calls, error = run(
        "run_training.slurm",
        checkout,
        CHECKPOINT_DIR="runs/a b",
        DATASET_FILE="food.npz",
        LOSS_TYPE="l1",
        NUM_EPOCHS="3",
        EXTRA_FLAGS="--freeze_transformer --seed=1",
    )
    assert status == 0, error
    assert calls == [
        "setup",
        "python train.py --model=rt1 --checkpoint_dir=runs/a b --dataset_file=food.npz --loss_type=l1 "
        "--num_epochs=3 --freeze_transformer --seed=1",
    ]


@pytest.mark.parametrize("left", ["last.json", "step-00000100"])
def test_training_resumes_where_there_is_a_checkpoint(checkout: Path, left: str) -> None:
    """Also where the pointer to the first one is missing."""
    (checkout / "runs" / left).mkdir(parents=True)
    if left == "last.json":
        (checkout / "runs" / left).rmdir()
        (checkout / "runs" / left).write_text("{}")
    _, calls, _ = run("run_training.slurm", checkout, CHECKPOINT_DIR="runs", DATA_DIR="rlds")
    assert (
        calls[1]
        == "python train.py --model=rt1 --checkpoint_dir=runs --data_dir=rlds --resume_checkpoint=runs"
    )


def test_training_failures_are_the_jobs(checkout: Path) -> None:
    (checkout / "status").write_text("3")
    status, calls, _ = run("run_training.slurm", checkout, CHECKPOINT_DIR="runs", DATA_DIR="rlds")
    assert (status, len(calls)) == (3, 2)
    assert run("run_training.slurm", checkout, CHECKPOINT_DIR="runs")[0] == 2
    assert run("run_training.slurm", checkout, DATA_DIR="rlds")[0] != 0


@pytest.mark.parametrize("names", [["SIGUSR1"], ["SIGTERM"], ["SIGUSR1", "SIGTERM"]], ids=" ".join)
def test_preempted_training_is_requeued_when_it_has_saved(checkout: Path, names: list[str]) -> None:
    """However often it is told: to be requeued would end it amid its checkpoint."""
    (checkout / "wait").touch()
    job = subprocess.Popen(
        ["bash", str(SCRIPTS / "run_training.slurm")],
        env=_environment(checkout, {"CHECKPOINT_DIR": "runs", "DATA_DIR": "rlds"}),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 20
        while not (checkout / "started").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert job.stdout is not None
        for name in names:
            job.send_signal(getattr(signal, name))
            while "Stopping" not in job.stdout.readline():
                assert time.monotonic() < end
        time.sleep(0.2)  # In which it must not be requeued.
        (checkout / "saved").touch()
        assert job.wait(20) == 0
    finally:
        job.kill()
    assert (checkout / "calls").read_text().splitlines()[-2:] == ["saved", "scontrol requeue 7"]


@pytest.mark.parametrize("model", ["clip_rt", "sarnn", "clip_sarnn"])
def test_every_model_can_be_trained_and_served(checkout: Path, model: str) -> None:
    options = {"MODEL": model, "DATA_DIR": "data", "CHECKPOINT_DIR": "log/run"}
    if model != "clip_rt":
        options["EPOCH"] = "7"
    if model == "clip_sarnn":
        options["CLIP_CHECKPOINT"] = "a clip"
    _, calls, _ = run("run_training.slurm", checkout, **options)
    assert calls[1].startswith(f"python train.py --model={model} --checkpoint_dir=log/run --data_dir=data")
    assert ("--epoch=7" in calls[1]) == (model != "clip_rt")
    assert ("--clip_checkpoint=a clip" in calls[1]) == (model == "clip_sarnn")
    _, calls, _ = run("api_server.slurm", checkout, MODEL=model, CHECKPOINT="log/run")
    assert calls[-1].startswith(f"python serve.py --model={model} --checkpoint=log/run ")


def test_server_flags(checkout: Path) -> None:
    _, calls, _ = run("api_server.slurm", checkout, CHECKPOINT="runs/food", EXTRA_FLAGS="--queue_size=4")
    assert (
        calls[1]
        == "python serve.py --model=rt1 --checkpoint=runs/food --host=127.0.0.1 --port=8080 --queue_size=4"
    )


def test_server_is_not_opened_without_a_token(checkout: Path) -> None:
    asked = {"CHECKPOINT": "runs", "HOST": "0.0.0.0", "PORT": "0"}
    status, calls, error = run("api_server.slurm", checkout, **asked)
    assert (status, calls) == (2, [])
    assert "token" in error.lower()
    status, calls, _ = run("api_server.slurm", checkout, **asked, TOKEN_FILE="token", MODELS_ROOT="all")
    assert status == 0
    assert calls[1].endswith("--host=0.0.0.0 --port=0 --token_file=token --models_root=all")


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        ("serve.py", ("model", "checkpoint", "host", "port", "token_file", "models_root")),
        (
            "train.py",
            (
                *("model", "checkpoint_dir", "resume_checkpoint", "dataset_file", "data_dir", "split_file"),
                *("config_file", "pretrained_checkpoint", "loss_type", "batch_size", "num_epochs"),
                *("image_size", "seed", "epoch", "clip_checkpoint"),
            ),
        ),
    ],
)
def test_flags_exist(program: str, flags: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, program, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    text = done.stdout + done.stderr
    for name in flags:
        assert f"--{name}:" in text or f"--[no]{name}:" in text


@pytest.mark.parametrize("script", ["run_training.slurm", "api_server.slurm"])
def test_scripts_have_slurms_options_first(script: str) -> None:
    lines = (SCRIPTS / script).read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert options
    assert max(options) < first_command  # Slurm stops reading at the first command.

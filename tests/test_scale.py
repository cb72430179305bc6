"""The files for Slurm and Kubernetes: what their programs and our command line make of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from falconet.bulk.blocks import Part, read_part

SCALE = Path(__file__).resolve().parents[1] / "examples" / "scale"

RECORD = """#!{shell}
for word in "$@"; do printf '%s\\n' "$word" >> "$RECORD"; done
"""


def accepted(command: str, words: list[str]) -> dict[str, Any]:
    """What our command line understands; fails where it does not."""
    import falconet.cli as cli

    cli._register(command)
    return get_command(cli.app).commands[command].make_context(command, list(words)).params


def launched(words: list[str]) -> tuple[Any, list[str]]:
    """What torchrun understands, and the words that are for `falconet`."""
    run = pytest.importorskip("torch.distributed.run")
    given = run.parse_args(words)
    assert (given.module, given.training_script) == (True, "falconet")
    return given, given.training_script_args


def stand_ins(folder: Path, **programs: str) -> dict[str, str]:
    """An environment in which these programs are the given shell scripts."""
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("bash is not installed")
    for name, text in programs.items():
        path = folder / name
        path.write_text(text if text.startswith("#!") else f"#!{shell}\n{text}\n")
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "RECORD": str(folder / "record")}


def recorded(folder: Path) -> list[str]:
    return (folder / "record").read_text().splitlines()


@pytest.mark.parametrize("name", ["train.sbatch", "batch.sbatch"])
def test_sbatch_files_are_bash(name: str) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    subprocess.run(["bash", "-n", str(SCALE / name)], check=True)
    done = subprocess.run(["bash", str(SCALE / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected what 'falconet" in done.stderr


def test_training_under_slurm(tmp_path: Path) -> None:
    srun = '[ "$1" = --kill-on-bad-exit=1 ] && [ "$2" = --cpus-per-task=8 ] && shift 2 && exec "$@"'
    scontrol = '[ "$*" = "show hostnames node[3-4]" ] && printf "node3\\nnode4\\n"'
    env = stand_ins(tmp_path, srun=srun, scontrol=scontrol, torchrun=RECORD.format(shell=shutil.which("bash")))
    env |= {"SLURM_JOB_NODELIST": "node[3-4]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "77"}
    command = ["bash", str(SCALE / "train.sbatch"), "run.yaml", "train.minutes=60", "output=runs/my run"]
    subprocess.run(command, env={**env, "SLURM_CPUS_PER_TASK": "8"}, check=True)
    given, words = launched(recorded(tmp_path))
    assert (given.nnodes, given.nproc_per_node, given.max_restarts) == ("2", "1", 0)
    assert (given.rdzv_id, given.rdzv_backend, given.rdzv_endpoint) == ("77", "c10d", "node3:29500")
    assert words == ["train", "run.yaml", "train.minutes=60", "output=runs/my run"]
    assert accepted("train", words[1:])


def test_pictures_under_slurm(tmp_path: Path) -> None:
    env = stand_ins(tmp_path, srun='shift; exec "$@"', falconet=RECORD.format(shell=shutil.which("bash")))
    env |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_CPUS_PER_TASK": "8"}
    command = ["bash", str(SCALE / "batch.sbatch"), "archive", "--model", "m.onnx", "--out", "found"]
    subprocess.run(command, env=env, check=True)
    words = recorded(tmp_path)
    assert words[0] == "batch"
    assert read_part(accepted("batch", words[1:])["part"]) == Part(3, 16)


def documents(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(SCALE / name))


@pytest.mark.parametrize("name", ["train-job.yaml", "batch-job.yaml"])
def test_kubernetes_takes_the_manifests(name: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for one in documents(name):
        validate.validate(one, validate.latest_version(), strict=True)
        assert len(one["metadata"]["name"]) < 50  # the names of pods are longer, and hosts have 63 letters
    wrong = documents(name)[-1]
    wrong["spec"]["completionsMode"] = "Indexed"
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, validate.latest_version(), strict=True)


def test_training_under_kubernetes() -> None:
    service, job = documents("train-job.yaml")
    pod = job["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    torchrun, *words = pod["spec"]["containers"][0]["command"]
    assert torchrun == "torchrun"
    given, words = launched([one.replace("$(JOB_COMPLETION_INDEX)", "1") for one in words])
    assert int(given.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
    # The first pod's name, which an Indexed Job makes of its own and the number, below the service's.
    assert given.master_addr == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert given.node_rank == 1
    assert words[0] == "train"
    assert accepted("train", words[1:])


def test_pictures_under_kubernetes(tmp_path: Path) -> None:
    (job,) = documents("batch-job.yaml")
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    parts = set()
    for index in range(job["spec"]["completions"]):
        env = stand_ins(tmp_path, falconet=RECORD.format(shell=shutil.which("bash")))
        subprocess.run(command, env={**env, "JOB_COMPLETION_INDEX": str(index)}, check=True)
        words = recorded(tmp_path)
        (tmp_path / "record").unlink()
        assert words[0] == "batch"
        parts.add(read_part(accepted("batch", words[1:])["part"]))
    assert parts == {Part(number, 16) for number in range(1, 17)}


@pytest.mark.slow
def test_a_training_by_the_file_for_slurm(tmp_path: Path) -> None:
    """Two tasks on this machine stand for two machines; both meet, and one folder is written."""
    pytest.importorskip("torch")
    from tests.training.tiny import draw, options

    srun = """shift 2
tasks=
for task in 1 2; do "$@" & tasks="$tasks $!"; done
for one in $tasks; do wait "$one" || exit 1; done"""
    torchrun = f'exec "{sys.executable}" -m torch.distributed.run "$@"'
    env = stand_ins(tmp_path, srun=srun, scontrol="echo 127.0.0.1", torchrun=torchrun)
    env |= {"SLURM_JOB_NODELIST": "x", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1"}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo", "PORT": str(29600 + os.getpid() % 300)}
    data, out = draw(tmp_path / "drawn"), tmp_path / "run"
    command = ["bash", str(SCALE / "train.sbatch"), *options(data, out, "train.epochs=1", "criterion.detach_epoch=1")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (out / "last.safetensors").is_file()
    assert "cpu x 2" in (out / "train.log").read_text()

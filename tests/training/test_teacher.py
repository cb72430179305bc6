"""A trained detector that teaches another one: what is learnt from it, where, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from falconet.core.errors import ConfigError, DataError
from falconet.models import CLASSIFIERS, PRESETS, Detector, build
from falconet.models.weights import ModelCard, save_weights
from falconet.training import fit, resume
from falconet.training.run_data import load_data
from falconet.training.state import TrainState
from falconet.training.teacher import Teacher
from tests.training.tiny import assert_same_weights, draw, tiny_run

NAMES = ("ant", "bee", "cat")
SIZE = 96


def trained(path: Path, preset: str = "nanodet-plus-demo", names: tuple[str, ...] = NAMES, *, seed: int = 0) -> Path:
    """Weights of a detector that is sure of something in every picture."""
    torch.manual_seed(seed)
    config = (PRESETS | CLASSIFIERS)[preset]
    network = build(config, len(names))
    with torch.no_grad():
        for parameter in network.parameters():  # a fresh head says the same of every box
            parameter.add_(0.05 * torch.randn_like(parameter))
        for name, rows in network.class_outputs().items():
            bias = network.state_dict().get(name.replace(".weight", ".bias"))
            if bias is not None:
                bias[rows] = torch.linspace(-1, 1, len(bias[rows]))
    save_weights(path, network, ModelCard(model=config, classes=names))
    return path


def student(preset: str = "nanodet-plus-demo", *, seed: int = 1) -> Detector:
    torch.manual_seed(seed)
    detector = build(PRESETS[preset], len(NAMES))
    assert isinstance(detector, Detector)
    return detector


def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def learn(teacher: Teacher, detector: Detector) -> dict[str, torch.Tensor]:
    raw = detector.eval()(teacher._normalize(pixels()))
    return teacher.terms(detector, raw, pixels())


def test_who_knows_it_all_learns_nothing(tmp_path: Path) -> None:
    twin = student(seed=0)
    twin.load_state_dict(build(PRESETS["nanodet-plus-demo"], 3).state_dict())
    config = PRESETS["nanodet-plus-demo"]
    save_weights(tmp_path / "twin.safetensors", twin, ModelCard(model=config, classes=NAMES))
    terms = learn(Teacher(tmp_path / "twin.safetensors", NAMES, twin), twin)
    assert set(terms) == {"teacher_class", "teacher_box", "teacher_distribution"}
    for value in terms.values():
        assert value.item() == pytest.approx(0, abs=1e-5)


def test_the_student_comes_nearer_and_the_teacher_stays(tmp_path: Path) -> None:
    detector = student()
    teacher = Teacher(trained(tmp_path / "t.safetensors"), NAMES, detector)
    before = [parameter.clone() for parameter in teacher._network.parameters()]
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.01)
    course = []
    for _ in range(4):
        terms = learn(teacher, detector)
        course.append({name: value.item() for name, value in terms.items()})
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    for name in course[0]:
        assert course[-1][name] < course[0][name], name
    for kept, parameter in zip(before, teacher._network.parameters(), strict=True):
        assert torch.equal(kept, parameter)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    detector = student()
    path = trained(tmp_path / "t.safetensors", names=("Cats", "dog", "bee", "ant"))
    teacher = Teacher(path, NAMES, detector)
    assert teacher._columns.tolist() == [3, 2, 0]
    learn(teacher, detector)["teacher_class"].backward()


def test_another_kind_of_detector_teaches_on_the_levels_that_both_have(tmp_path: Path) -> None:
    detector = student()
    teacher = Teacher(trained(tmp_path / "t.safetensors", "ppyoloe-plus-t-320"), NAMES, detector)
    terms = learn(teacher, detector)
    assert set(terms) == {"teacher_class", "teacher_box"}, "their distances begin at other points of a cell"
    raw = detector(teacher._normalize(pixels()))
    (places,) = teacher._places.values()
    assert set(raw.priors.strides[places.student].flatten().tolist()) == {8, 16, 32}
    assert len(places.student) == (SIZE // 8) ** 2 + (SIZE // 16) ** 2 + (SIZE // 32) ** 2
    torch.stack(list(terms.values())).sum().backward()


@pytest.mark.parametrize(
    ("preset", "names", "message"),
    [
        ("nanodet-plus-demo", ("ant", "bee"), "does not know cat; expected a detector trained on the same classes"),
        ("mobilenet-v2-0.5", NAMES, "a detector teaches a detector, and no classifier"),
        ("yolov3-lite-mobilenet-v3-small", NAMES, "detectors that predict from anchors neither teach nor are taught"),
    ],
)
def test_what_cannot_teach(tmp_path: Path, preset: str, names: tuple[str, ...], message: str) -> None:
    path = trained(tmp_path / "t.safetensors", preset, names)
    with pytest.raises(ConfigError, match=message):
        Teacher(path, NAMES, student())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"), train=12, val=3)


@pytest.fixture(scope="module")
def master(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tiny_run(data, tmp_path_factory.mktemp("master") / "run", "train.epochs=1"))


def few(data: Path, folder: Path) -> Path:
    """Annotations of the first four training pictures."""
    tree = json.loads((data / "train.json").read_text())
    tree["images"] = tree["images"][:4]
    ids = {image["id"] for image in tree["images"]}
    tree["annotations"] = [one for one in tree["annotations"] if one["image_id"] in ids]
    (folder / "few.json").write_text(json.dumps(tree))
    return folder / "few.json"


@pytest.mark.slow
def test_a_run_with_a_teacher_resumes_exactly(
    data: Path, master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"train.teacher={master}", "train.epochs=3"]
    whole = fit(tiny_run(data, tmp_path / "whole", *options))
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert all(line["loss_teacher_class"] > 0 for line in lines)
    assert f"teacher: {master}" in (whole / "train.log").read_text()
    original = TrainState.save

    def stop(self: TrainState, *args: object) -> None:
        original(self, *args)  # type: ignore[arg-type]
        if self.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_run(data, tmp_path / "cut", *options))
    assert_same_weights(whole / "last.safetensors", resume(tmp_path / "cut") / "last.safetensors")


def test_unlabelled_pictures_are_those_that_nobody_annotated(data: Path, master: Path, tmp_path: Path) -> None:
    source = f"data.train={{annotations: {few(data, tmp_path)}, images: {data}/train}}"
    shutil.copytree(data, tmp_path / "all")
    (tmp_path / "all" / "broken.jpg").write_bytes(b"no picture")
    run = tiny_run(data, tmp_path / "run", source, f"data.unlabelled={data}", f"train.teacher={master}")
    found = load_data(run.data)
    labelled, unlabelled = found.train[:4], found.train[4:]
    assert len(unlabelled) == 8
    assert all(record.crowd.all() and len(record.boxes) == 1 for record in unlabelled)
    assert not {record.path for record in labelled} & {record.path for record in unlabelled}
    assert not {record.path.absolute() for record in found.val} & {record.path.absolute() for record in unlabelled}
    (note,) = [note for note in found.notes if note.startswith("unlabelled: 8 pictures of")]
    assert note.endswith("; 7 others are part of the training or validation data already")
    broken = run.data.model_copy(update={"unlabelled": tmp_path / "all"})
    assert any(note.startswith("data.unlabelled: left out: ") for note in load_data(broken).notes)
    log = (fit(run) / "train.log").read_text()
    assert "unlabelled: 8 pictures of" in log
    assert "2 epochs; an epoch has 3 steps" in log


def test_unlabelled_pictures_want_a_teacher(data: Path, master: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.unlabelled needs a train\.teacher"):
        tiny_run(data, tmp_path / "run", f"data.unlabelled={data}")
    (tmp_path / "empty").mkdir()
    run = tiny_run(data, tmp_path / "run", f"data.unlabelled={tmp_path}/empty", f"train.teacher={master}")
    with pytest.raises(DataError, match="holds no pictures"):
        load_data(run.data)

"""Several batches for a step of the optimiser."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from falconet.core.errors import ModelError
from falconet.training import fit
from falconet.training.loop import Part
from falconet.training.run_folder import RunFolder
from tests.training.tiny import draw, tiny_run


def test_parts_of_a_step_and_the_last_step_of_an_epoch() -> None:
    parts = [Part.of(index, 3, 8) for index in range(8)]
    assert [part.first for part in parts] == [True, False, False] * 2 + [True, False]
    assert [part.last for part in parts] == [False, False, True] * 2 + [False, True]
    assert [round(1 / part.share) for part in parts] == [3] * 6 + [2] * 2
    assert Part.of(5, 1, 8) == Part(first=True, last=True, share=1.0)


def test_the_optimiser_steps_once_for_several_batches(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    for count, steps in ((1, 6), (2, 4), (3, 2), (9, 2)):
        folder = fit(tiny_run(data, tmp_path / f"run-{count}", f"train.accumulate={count}"))
        state = RunFolder(folder).read_state()
        assert {int(values["step"]) for values in state["optimizer"]["state"].values()} == {steps}, count
        assert state["step"] == 6
    assert "sqrt(batch 12 / 8)" in (tmp_path / "run-3" / "train.log").read_text()


def test_a_batch_of_one_value_per_channel_is_told(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    with pytest.raises(ModelError, match="a batch of 1 leaves batch norms one value per channel; expected a larger"):
        fit(tiny_run(data, tmp_path / "run", "train.batch_size=1"))


def test_equal_batches_make_the_step_of_one(tmp_path: Path) -> None:
    """Where both batches hold the same picture, the mean of their gradients is that of each."""
    still = ["augment.strength=0", "augment.flip=0", "train.final_rate=1", "train.warmup_steps=0"]
    alone = [
        "train.batch_size=1",
        "train.norms=folded",
        "train.epochs=1",
        "train.reference_batch=null",
        "train.average_decay=0",
        *still,
    ]
    data = draw(tmp_path / "drawn")
    tree = json.loads((data / "train.json").read_text())
    image = next(one for one in tree["images"] if any(box["image_id"] == one["id"] for box in tree["annotations"]))
    tree["images"] = [image]
    tree["annotations"] = [box for box in tree["annotations"] if box["image_id"] == image["id"]]
    (data / "train.json").write_text(json.dumps(tree))
    one = fit(tiny_run(data, tmp_path / "one", *alone))
    picture = next(data.rglob(image["file_name"]))
    shutil.copyfile(picture, picture.with_stem("twin"))
    tree["images"].append(image | {"id": 99, "file_name": image["file_name"].replace(picture.stem, "twin")})
    tree["annotations"] += [box | {"id": 1000 + box["id"], "image_id": 99} for box in tree["annotations"]]
    (data / "train.json").write_text(json.dumps(tree))
    two = fit(tiny_run(data, tmp_path / "two", *alone, "train.accumulate=2"))
    first, second = (load_file(folder / "last.safetensors") for folder in (one, two))
    learnt = [
        name for name in first if not name.rpartition(".")[2].startswith(("running", "num_batches", "trained_on"))
    ]
    for name in learnt:
        np.testing.assert_allclose(second[name], first[name], rtol=1e-5, atol=1e-7, err_msg=name)

"""Which candidates are trained, and what they start from."""

from pathlib import Path

import pytest

from falconet.core.errors import ModelError
from falconet.search import candidates
from falconet.search.candidates import BACKBONE, NOTHING, WHOLE, Candidate, Starts, choose, within
from falconet.search.space import Space, shapes
from falconet.search.timing import Timing

SPACE = Space.model_validate(
    {
        "families": [
            {"name": "plus", "preset": "nanodet-plus-m-416", "share": [1, 0.7, 0.5]},
            {"name": "m", "preset": "nanodet-m-416", "share": [1, 0.5]},
            {"name": "ghost", "preset": "nanodet-plus-m-416", "model": {"backbone": {"name": "ghostnet"}}},
            {
                "name": "own",
                "preset": "nanodet-plus-demo",
                "model": {"backbone": {"name": "repvgg"}},
                "choices": {"neck.channels": [16, 32, 48]},
            },
        ]
    }
)
SHAPES = shapes(SPACE, seed=0)
ALL = [Candidate(shape, (192, 192), Timing(1, 1)) for shape in SHAPES]


def names(chosen) -> list[str]:
    return [one.shape.name for one, _ in chosen]


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "weights_to_start_from", lambda name, _: Path(f"{name}.safetensors"))


@pytest.mark.usefixtures("there")
def test_trained_ones_first_and_each_family_in_turn() -> None:
    chosen = choose(ALL, 8, Starts())
    assert names(chosen) == ["plus", "m", "plus 0.5", "m 0.5", "plus 0.7", "ghost", "own nc16", "own nc48"]
    assert [start.trained for _, start in chosen] == [WHOLE] * 5 + [BACKBONE] + [NOTHING] * 2
    assert chosen[2][1].path == Path("nanodet-plus-m-416-coco.safetensors")
    assert names(choose(ALL, 4, Starts())) == ["plus", "m", "plus 0.5", "ghost"]
    assert len(choose(ALL, 50, Starts())) == len(ALL)


@pytest.mark.usefixtures("there")
def test_what_is_left_open_goes_to_those_that_know_something() -> None:
    assert names(choose(ALL[:3], 3, Starts())) == ["plus", "plus 0.5", "plus 0.7"]


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def missing(name: str, _) -> Path:
        asked.append(name)
        raise ModelError(f"{name}: no network")

    monkeypatch.setattr(candidates, "weights_to_start_from", missing)
    chosen = choose(ALL, 6, Starts())
    assert len(chosen) == 6
    assert {start.trained for _, start in chosen} == {NOTHING}
    assert sorted(asked) == ["imagenet", "nanodet-m-416-coco", "nanodet-plus-m-416-coco"]  # each once
    assert "start from scratch: nanodet-m-416-coco: no network" in caplog.text


def test_each_at_the_largest_input_that_fits() -> None:
    sizes, asked = [(64, 64), (128, 128), (192, 192), (256, 256)], []

    def clock(model) -> Timing:
        asked.append(model.input.height)
        ms = model.input.height**2 / 1000
        return Timing(ms, ms)

    found = within(SHAPES[:3], sizes, 20, clock)
    assert [one.size for one in found] == [(128, 128)] * 3
    assert found[0].model.input.height == 128
    assert asked == [192, 128, 128, 128]  # a family's later members begin where the first one ended
    assert within(SHAPES, sizes, 1, clock) == []

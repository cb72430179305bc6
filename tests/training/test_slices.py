"""Narrower networks as slices of the weights of a wider one: what they compute, what they learn, what is taken out."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from falconet.core.errors import ModelError
from falconet.models import PRESETS, build
from falconet.models.channels import kept_places
from falconet.models.layers import ConvNormAct
from falconet.models.slices import sliced
from falconet.models.weights import load_extra, load_weights
from falconet.models.widths import narrower
from falconet.search.space import at_size
from falconet.training import RunConfig, fit, resume
from falconet.training.depthwise import use_fast_depthwise
from falconet.training.folded_norms import FoldedConvNormAct, fold_norms
from falconet.training.initial import StartingPoint, first_images
from falconet.training.loop import TrainModule
from falconet.training.plan import PRUNED_RATE
from falconet.training.prepare import make_loader, prepare
from falconet.training.processes import Process
from falconet.training.progress import Progress
from falconet.training.run_data import load_data
from falconet.training.run_folder import RunFolder
from falconet.training.slice_files import write_slices
from falconet.training.slices import Slices, axis_places, make_slices, slice_key
from tests.models.test_channels import drawn, images
from tests.training.test_folded_norms import Interrupted
from tests.training.tiny import assert_same_weights, draw, tiny_run

SHARES = (0.75, 0.5, 0.25)
NAMES = ["nanodet-plus-demo", "nanodet-m-320", "ppyoloe-plus-t-320", "yolov3-tiny"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tiny_run(data, tmp_path_factory.mktemp("runs") / "first", "criterion.detach_epoch=0"))


def with_slices(run: RunConfig, *shares: float) -> RunConfig:
    return run.model_copy(update={"slices": tuple(narrower(run.model, share) for share in shares or SHARES)})


def made(name: str, *shares: float, folded: bool = False) -> tuple[nn.Module, Slices, list[str]]:
    """A network, its slices, and what these are called."""
    model, network = PRESETS[name], drawn(PRESETS[name]).train()
    narrow = [narrower(model, share) for share in shares]
    slices = make_slices(narrow, model, network, classes=3, images=[images()], known={})
    if folded:
        fold_norms(network)
        fold_norms(slices)
    use_fast_depthwise(slices)
    slices.hollow()
    return network, slices, [slice_key(model, one) for one in narrow]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_slice_is_the_narrower_network(name: str, folded: bool) -> None:
    """What it computes within the wide one, a network with these weights of its own computes to the digit."""
    network, slices, (key,) = made(name, 0.5, folded=folded)
    assert not list(slices.parameters())
    assert list(slices.state_dict()) == [key]
    narrow = build(narrower(PRESETS[name], 0.5), 3)
    where = axis_places(slices.get_buffer(key), slices._like[key])
    narrow.load_state_dict(sliced(network.state_dict(), where))
    for block in narrow.modules():
        if folded and type(block) is ConvNormAct:
            block.__class__ = FoldedConvNormAct
    with torch.no_grad():
        ours, its = slices.outputs(key, network, images()), narrow.train().forward_outputs(images())
    for one, other in zip([*ours.backbone, *ours.neck], [*its.backbone, *its.neck], strict=True):
        assert torch.equal(one, other)
    assert torch.equal(ours.raw.logits, its.raw.logits)
    assert torch.equal(ours.raw.box_code, its.raw.box_code)


def test_by_hand() -> None:
    weight = torch.arange(12.0).reshape(3, 4).requires_grad_()
    taken = sliced({"a": weight}, {("a", 0): torch.tensor([2, 0]), ("a", 1): torch.tensor([3, -1])})["a"]
    assert taken.tolist() == [[11, 0], [3, 0]]
    taken.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_other_networks(tmp_path: Path, data: Path) -> None:
    model, network = PRESETS["nanodet-plus-demo"], build(PRESETS["nanodet-plus-demo"], 3)
    wider = [PRESETS["nanodet-plus-m-320"]]
    with pytest.raises(ModelError, match=r"more than the \d+ to take from"):
        make_slices(wider, model, network, classes=3, images=(), known={})
    narrow = narrower(model, 0.5)
    wrong = {slice_key(model, narrow): torch.zeros(5, dtype=torch.int64)}
    with pytest.raises(ModelError, match="5 places of channels, where these networks have"):
        make_slices([narrow], model, network, classes=3, images=(), known=wrong)
    run = tiny_run(data, tmp_path)
    tree = run.model_dump() | {"slices": [PRESETS["nanodet-m-320"].model_dump()]}
    with pytest.raises(ValueError, match="same kind as the model, nanodet-plus"):
        RunConfig.model_validate(tree)


def test_settings_of_a_run_with_slices(data: Path, first: Path, tmp_path: Path) -> None:
    run = with_slices(tiny_run(data, tmp_path / "run", "criterion.detach_epoch=5", f"train.weights={first}"))
    start = StartingPoint(run.model, first)
    settled = start.settle(run, start.classes)
    assert (settled.criterion.detach_epoch, settled.train.freeze, settled.train.norms) == (0, "none", "folded")
    assert start.rate(run.model, start.classes, slices=run.slices) == PRUNED_RATE


def test_gradients_are_the_mean_of_those_of_the_networks(data: Path, first: Path, tmp_path: Path) -> None:
    run = with_slices(tiny_run(data, tmp_path / "run", f"train.weights={first}", "train.precision=float32"), 0.5)
    prepared = prepare(run.absolute(), Process(), started=0, state=None)
    batch, progress = next(iter(prepared.loader)), Progress(0, 1, 0.0)
    module = TrainModule(prepared)
    network, slices = prepared.networks["network"], prepared.networks["slices"]
    parameters = [one for one in network.parameters() if one.requires_grad]

    def gradients(terms: dict[str, Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(torch.stack(list(terms.values())).sum(), parameters, allow_unused=False))

    whole = gradients(module(batch, progress))
    (key,) = slices.networks
    pixels = module.normalize(batch.pixels)
    members = [network.forward_outputs(pixels), slices.outputs(key, network, pixels)]
    apart = [gradients(prepared.networks["criterion"](one, batch.targets, progress)) for one in members]
    for found, one, other in zip(whole, *apart, strict=True):
        torch.testing.assert_close(found, (one + other) / 2, rtol=1e-3, atol=1e-5)
    assert any(not torch.allclose(one, other) for one, other in zip(*apart, strict=True))


def test_the_narrowest_in_each_step_and_others_in_turn() -> None:
    network, slices, keys = made("nanodet-plus-demo", 0.25, 0.75, 0.5)
    assert list(slices.networks) == [keys[1], keys[2], keys[0]]
    torch.manual_seed(0)
    widths = {tuple(one.neck[0].shape[1] for one in slices(network, images())) for _ in range(12)}
    assert widths == {(16, 48), (16, 32)}


@pytest.mark.slow
@pytest.mark.parametrize("norms", ["folded", "batch"])
def test_a_run_that_is_interrupted_resumes_exactly(data: Path, first: Path, tmp_path: Path, norms: str) -> None:
    words = (f"train.weights={first}", f"train.norms={norms}", "train.average_decay=0.5")
    whole = fit(with_slices(tiny_run(data, tmp_path / "whole", *words), 0.5))
    with pytest.raises(KeyboardInterrupt):
        fit(with_slices(tiny_run(data, tmp_path / "halted", *words), 0.5), callback=Interrupted())
    resume(tmp_path / "halted")
    assert_same_weights(tmp_path / "halted" / "last.safetensors", whole / "last.safetensors")
    again = fit(with_slices(tiny_run(data, tmp_path / "again", *words, f"train.weights={whole}"), 0.5))
    before, after = (load_extra(run / "last.safetensors") for run in (whole, again))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before), "slices lie where they lay before"


@pytest.mark.parametrize("norms", ["batch", pytest.param("folded", marks=pytest.mark.slow)])
def test_slices_that_are_taken_out(data: Path, first: Path, tmp_path: Path, norms: str) -> None:
    words = (f"train.weights={first}", f"train.norms={norms}", "train.epochs=1", "train.multi_scale=[1,1.5]")
    folder = fit(with_slices(run := tiny_run(data, tmp_path / "run", *words), 0.5))
    whole, half = run.model, at_size(narrower(run.model, 0.5), (64, 96))
    write_slices(folder, [(whole, tmp_path / "whole"), (half, tmp_path / "half")])
    last, _ = load_weights(folder / "last.safetensors")
    taken, card = load_weights(tmp_path / "half" / "best.safetensors")
    assert (card.model, card.metrics) == (half, {})
    same, _ = load_weights(tmp_path / "whole" / "best.safetensors")
    for one, other in zip(same.state_dict().values(), last.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    flat = load_extra(folder / "last.safetensors")[slice_key(whole, half)]
    own = sliced(last.state_dict(), axis_places(flat, kept_places(taken, last, {})))
    norms_changed = {
        name.rpartition(".")[2] for name, value in taken.state_dict().items() if not value.equal(own[name])
    }
    expected = {"running_mean", "running_var", "num_batches_tracked"} if norms == "batch" else set()
    assert norms_changed == expected
    again = RunFolder(tmp_path / "half").read_run()
    assert (again.model, again.slices, again.train.multi_scale) == (half, (), None)
    with pytest.raises(ModelError, match="does not say where this narrower network lies"):
        write_slices(folder, [(narrower(whole, 0.75), tmp_path / "other")])


@pytest.mark.slow
def test_statistics_of_a_slice_are_those_of_its_features(data: Path, first: Path, tmp_path: Path) -> None:
    """On the very images that they are measured on, each norm has mean 0 and variance 1 behind it."""
    words = (f"train.weights={first}", "train.norms=batch", "train.epochs=1", "train.batch_size=12")
    folder = fit(with_slices(run := tiny_run(data, tmp_path / "run", *words), 0.5))
    half = narrower(run.model, 0.5)
    write_slices(folder, [(half, tmp_path / "half")])
    taken, _ = load_weights(tmp_path / "half" / "best.safetensors")
    stem = next(block for block in taken.modules() if isinstance(block, ConvNormAct))
    own = RunFolder(tmp_path / "half").read_run()
    loader = make_loader(own, load_data(own.data), Process(), workers=0)
    with torch.no_grad():
        features = stem.conv(next(first_images(half.input, loader, 12)))
    torch.testing.assert_close(stem.norm.running_mean, features.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(stem.norm.running_var, features.var((0, 2, 3)), rtol=1e-3, atol=1e-4)

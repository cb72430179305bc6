"""What tests share of exports: a network that differs in anything is traced anew."""

from pathlib import Path

import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("fcntl")


def network(seed: int = 0, *, hooks: int = 0, eps: float = 1e-5) -> "torch.nn.Module":
    torch.manual_seed(seed)
    made = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4, eps=eps))
    for _ in range(hooks):
        made[0].register_forward_hook(print)
    return made.eval()


def test_only_equal_networks_are_taken_for_the_same(tmp_path: Path) -> None:
    from tests.traced import traced_once

    traced = []

    def export(module: "torch.nn.Module", entry: "torch.Tensor", **options: object) -> onnx.ModelProto:
        traced.append((module, entry, options))
        return onnx.ModelProto(doc_string=str(len(traced)))

    pixels = torch.zeros(2, 3, 4, 4)
    once, other_process = traced_once(export, tmp_path), traced_once(export, tmp_path)
    assert once(network(), pixels, opset=18).doc_string == "1"
    assert other_process(network(), pixels, opset=18).doc_string == "1"
    changed = [network(1), network(eps=1e-3), network(hooks=1), network().train()]
    assert [once(one, pixels, opset=18).doc_string for one in changed] == ["2", "3", "4", "5"]
    assert once(network(hooks=1), pixels, opset=18).doc_string == "4", "hooks are numbered anew in each network"
    assert once(network(), pixels[:1], opset=18).doc_string == "6"
    assert once(network(), pixels, opset=19).doc_string == "7"
    local = network()
    local.extra = lambda: None  # cannot be told from another one
    assert [once(local, pixels, opset=18).doc_string for _ in range(2)] == ["8", "9"]

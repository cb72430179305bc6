"""Which files an exported model consists of."""

from pathlib import Path

from falconet.core.exported_files import is_exported, model_files


def test_what_lies_beside(tmp_path: Path) -> None:
    assert [path.name for path in model_files(Path("a/m.onnx"))] == ["m.onnx"]
    assert [path.name for path in model_files(Path("m.param"))] == ["m.param", "m.bin", "m.falconet.json"]
    assert [path.name for path in model_files(Path("m.openvino.xml"))] == ["m.openvino.xml", "m.openvino.bin"]
    voc = tmp_path / "street.xml"
    voc.touch()
    assert not is_exported(voc), "boxes of a picture"
    voc.with_suffix(".bin").touch()
    assert is_exported(voc)
    assert is_exported(Path("not/there.onnx"))
    assert not is_exported(Path("m.safetensors"))

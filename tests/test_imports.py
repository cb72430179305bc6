"""What an import brings with it: `import falconet` nothing heavy, the device side never torch."""

import json
import pkgutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

import falconet

HEAVY = ("torch", "cv2", "numpy", "onnxruntime", "pydantic", "ruamel", "rich", "typer", "simplejpeg")
OPTIONAL = () if find_spec("ai_edge_litert") else ("falconet.runtime.litert_engine",)
DEVICE = ("core", "data", "eval", "runtime", *(["serving"] if find_spec("fastapi") else []))
TRAINING = ("torch", "onnx", "onnxscript", "jaxtyping", "tensorboard")


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after `code`."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted({{n.partition('.')[0] for n in list(sys.modules)}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def modules_of(*packages: str) -> list[str]:
    found = []
    for package in packages:
        path = import_module(f"falconet.{package}").__path__
        found += [f"falconet.{package}", *(m.name for m in pkgutil.walk_packages(path, f"falconet.{package}."))]
    return found


def test_import_falconet_imports_nothing_heavy():
    loaded = loaded_after("import falconet\nassert falconet.__version__")
    assert "falconet" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_device_side_never_imports_torch():
    names = [name for name in modules_of(*DEVICE) if name not in OPTIONAL]
    assert len(names) > 20
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names)
    loaded = loaded_after(code)
    assert {"falconet", "numpy"} <= loaded
    assert loaded.isdisjoint(TRAINING)


def test_detecting_needs_only_what_it_uses():
    loaded = loaded_after("import falconet.runtime.pipeline, falconet.cli.predict")
    assert loaded.isdisjoint(TRAINING)
    assert loaded.isdisjoint({"pydantic", "ruamel", "rich", "hotcoco", "safetensors"})


def test_parsing_a_command_needs_no_pydantic():
    loaded = loaded_after(
        "from falconet import cli\nsys.argv = ['falconet', 'predict', 'a.jpg', '--model', 'missing.onnx']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert end.code == 2"
    )
    assert "typer" in loaded
    assert loaded.isdisjoint({"pydantic", "ruamel"})


def test_the_command_line_imports_no_torch():
    assert loaded_after("from falconet import cli\ncli._register()").isdisjoint(TRAINING)


def test_a_command_loads_only_what_parses_it():
    loaded = loaded_after(
        "from falconet import cli\ncli._register('predict')\nassert 'falconet.cli.train' not in sys.modules"
    )
    assert loaded.isdisjoint({*TRAINING, "numpy", "cv2", "onnxruntime", "ruamel", "rich"})


@pytest.mark.parametrize("name", falconet.__all__)
def test_public_names(name):
    assert getattr(falconet, name) is not None


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'falconet' has no attribute 'lod'"):
        _ = falconet.lod

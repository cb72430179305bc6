"""Fuzzing of the readers: valid files, mutated by bytes and by structure, may be read or refused, nothing else.

Run it for longer with `python -m tests.zoo.fuzz SECONDS [SEED]`: it limits the memory of the process, prints
how many inputs each reader was given, and writes an input that broke one to `fuzz-READER.bin`.
"""

import io
import pickletools
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
from ruamel.yaml.comments import CommentedMap

from falconet.core.config import parse_yaml, plain, validate, yaml_text
from falconet.core.errors import FalconetError
from falconet.core.images import decode_image
from falconet.core.manifest import Manifest, Preprocess, read_manifest
from falconet.models import CLASSIFIERS
from falconet.models.weights import ModelCard, load_weights, save_weights
from falconet.training import RunConfig
from falconet.training.recipes import preset_text
from falconet.zoo.formats.darknet_files import parse_cfg
from falconet.zoo.formats.darknet_files import parse_weights as parse_darknet
from falconet.zoo.formats.ncnn_files import parse_graph, parse_weights
from falconet.zoo.formats.onnx_files import parse_convolutions
from falconet.zoo.formats.pickles import arrays, read_pickle
from falconet.zoo.formats.torch_files import read_checkpoint
from falconet.zoo.nanodet.from_yaml import translate as translate_nanodet
from falconet.zoo.nanodet.ncnn_to_onnx import find_head
from falconet.zoo.nanodet.onnx_graph import GraphWriter
from falconet.zoo.ppyoloe.from_yaml import read_chain
from falconet.zoo.ppyoloe.from_yaml import translate as translate_paddle
from falconet.zoo.yolov3 import from_darknet as darknet_to_detector
from tests.core.pictures import encode, smooth
from tests.zoo import darknet_reference, files
from tests.zoo.test_nanodet_yaml import plus
from tests.zoo.test_paddle_yaml import write_family

MEMORY = 4 * 2**30
WORDS = [b"-1", b"0", b"4294967296", b"99999999999", b"1e308", b"nan", b"-233", b"-23300=9,1", b"=", b"x" * 50]
NUMBERS = [0, 1, -1, 2**31 - 1, 2**32 - 1, 2**48, 2**63 - 1, -(2**63)]


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to eight bytes changed, a piece cut out, doubled or the end lost."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if not out:
            break
        place = rng.randrange(len(out))
        kind = rng.randrange(6)
        if kind == 0:
            out[place] = rng.randrange(256)
        elif kind == 1:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del out[place : place + rng.randint(1, 40)]
        elif kind == 3:
            out[place:place] = out[place : place + rng.randint(1, 40)]
        elif kind == 4:
            size = rng.choice([1, 2, 4, 8])
            out[place : place + size] = (rng.choice(NUMBERS) % 256**size).to_bytes(size, "little")
        elif rng.random() < 0.2:
            del out[place:]
    return bytes(out)


def mutate_pickle(data: bytes, rng: random.Random) -> bytes:
    """Instructions left out, doubled, exchanged, replaced, or given another number."""
    starts = [position for _, _, position in pickletools.genops(data) if position is not None]
    steps = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    codes = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    for _ in range(rng.randint(1, 6)):
        place, other = rng.randrange(len(steps)), rng.randrange(len(steps))
        kind = rng.randrange(6)
        if kind == 0:
            del steps[place : place + rng.randint(1, 3)]
            steps = steps or [b"."]
        elif kind == 1:
            steps.insert(other, steps[place])
        elif kind == 2:
            steps[place], steps[other] = steps[other], steps[place]
        elif kind == 3:
            steps[place] = rng.choice(codes)
        elif kind == 4:
            number = rng.choice(NUMBERS)
            steps[place] = b"\x8a\x09" + number.to_bytes(9, "little", signed=True)
        else:
            steps[place] = mutate_bytes(steps[place], rng)
    return b"".join(steps)


def mutate_words(data: bytes, rng: random.Random) -> bytes:
    """Words of a text exchanged, left out or replaced by extremes."""
    lines = [line.split(b" ") for line in data.split(b"\n")]
    for _ in range(rng.randint(1, 5)):
        line = rng.choice(lines)
        place = rng.randrange(len(line)) if line else 0
        kind = rng.randrange(4)
        if kind == 0 and line:
            key = line[place].partition(b"=")[0]
            line[place] = rng.choice([rng.choice(WORDS), key + b"=" + rng.choice(WORDS)])
        elif kind == 1 and line:
            del line[place]
        elif kind == 2:
            line.insert(place, rng.choice(WORDS))
        else:
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"\n".join(b" ".join(line) for line in lines)


def read_zip_checkpoint(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".ckpt") as stream:
        stream.write(data)
        stream.flush()
        tree = read_checkpoint(Path(stream.name))
        if isinstance(tree, dict):
            arrays(tree.get("state_dict", tree), "fuzz", limit=4 * len(data) + 4096)


def read_pair(data: bytes) -> None:
    graph, _, weights = data.partition(b"\x00split\x00")
    layers = parse_weights(parse_graph(graph, "fuzz.param"), weights, "fuzz.bin")
    find_head(layers, GraphWriter(), Preprocess(height=64, width=64))


def read_array_file(data: bytes) -> None:
    tree = read_pickle(io.BytesIO(data), "fuzz")
    arrays(tree, "fuzz", limit=4 * len(data) + 4096)


def read_run(data: bytes) -> None:
    """A run file, up to the run that it describes."""
    validate(RunConfig, parse_yaml(data.decode(errors="replace"), "fuzz.yaml"), name="fuzz.yaml")


def read_nanodet_yaml(data: bytes) -> None:
    translate_nanodet(plain(parse_yaml(data.decode(errors="replace"), "fuzz.yml")), "fuzz.yml")


def read_paddle_yaml(data: bytes) -> None:
    translate_paddle(plain(parse_yaml(data.decode(errors="replace"), "fuzz.yml")), "fuzz.yml")


def _yaml(tree: dict[str, Any]) -> bytes:
    return yaml_text(CommentedMap(tree)).encode()


def _paddle_yaml() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return _yaml(read_chain(write_family(Path(folder))))


def read_weights(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as stream:
        stream.write(data)
        stream.flush()
        load_weights(Path(stream.name))


def own_weights() -> bytes:
    """A classifier with few channels as a weights file."""
    config = CLASSIFIERS["lcnet-0.25"]
    card = ModelCard(model=config, classes=("a", "b"))
    with tempfile.TemporaryDirectory() as folder:
        save_weights(Path(folder) / "a.safetensors", config.build(2).eval(), card)
        return (Path(folder) / "a.safetensors").read_bytes()


def _spoil_card(data: bytes, rng: random.Random) -> bytes:
    """The description spoilt, the tensors as they were."""
    size = int.from_bytes(data[:8], "little")
    head = mutate_bytes(data[8 : 8 + size], rng)
    return len(head).to_bytes(8, "little") + head + data[8 + size :]


def read_darknet(data: bytes) -> None:
    """A cfg and weights, matched with the networks that are known."""
    cfg, _, weights = data.partition(b"\x00split\x00")
    options = parse_cfg(cfg.decode(errors="replace"), "fuzz.cfg")
    darknet_to_detector.fitting(parse_darknet(weights, "fuzz.weights"), options, [tuple("abc")], whole=True)


class Target:
    """A reader, a valid input for it, and the ways to spoil it."""

    def __init__(
        self, read: Callable[[bytes], object], valid: bytes, *spoil: Callable[[bytes, random.Random], bytes]
    ) -> None:
        self.read, self.valid, self.spoil = read, valid, spoil

    def try_one(self, rng: random.Random) -> bytes:
        """Reads one spoilt input; anything but success or an error of ours escapes. Returns the input."""
        data = rng.choice(self.spoil)(self.valid, rng)
        try:
            self.read(data)
        except FalconetError:
            pass
        except BaseException:
            self.broken = data
            raise
        return data


def _spoil_member(data: bytes, rng: random.Random) -> bytes:
    """The pickle within a zip checkpoint spoilt, with correct checksums around it."""
    return files.rezip(data, {"data.pkl": mutate_pickle(files.member(data, "data.pkl"), rng)})


def _spoil_names(data: bytes, rng: random.Random) -> bytes:
    """Members of a zip archive left out, renamed or of another length."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for info in old.infolist():
            if rng.random() < 0.05:
                continue
            content = old.read(info)
            if rng.random() < 0.1:
                content = content[: rng.randrange(len(content) + 1)] + bytes(rng.randrange(9))
            new.writestr(info.filename, content)
    return stream.getvalue()


def _spoil_graph(data: bytes, rng: random.Random) -> bytes:
    graph, mark, weights = data.partition(b"\x00split\x00")
    return mutate_words(graph, rng) + mark + weights


def _spoil_weights(data: bytes, rng: random.Random) -> bytes:
    graph, mark, weights = data.partition(b"\x00split\x00")
    return graph + mark + mutate_bytes(weights, rng)


def _spoil_old(data: bytes, rng: random.Random) -> bytes:
    """The main pickle of an old checkpoint spoilt, everything around it as it was."""
    stream = io.BytesIO(data)
    for _ in range(3):
        list(pickletools.genops(stream))
    start = stream.tell()
    list(pickletools.genops(stream))
    return data[:start] + mutate_pickle(data[start : stream.tell()], rng) + data[stream.tell() :]


def targets() -> dict[str, Target]:
    """All readers by name."""
    pair = files.NCNN_GRAPH + b"\x00split\x00" + files.ncnn_weights()
    old = files.torch_checkpoint(zipped=False)
    network = darknet_reference.network("yolov3-tiny", classes=3)
    numbers = darknet_reference.header() + darknet_reference.random_numbers(network[:6]).tobytes()
    darknet = darknet_reference.text(network).encode() + b"\x00split\x00" + numbers
    return {
        "arrays": Target(read_array_file, files.array_pickle(), mutate_bytes, mutate_pickle),
        "arrays-2": Target(read_array_file, files.array_pickle(2), mutate_bytes, mutate_pickle),
        "zip": Target(read_zip_checkpoint, files.torch_checkpoint(), mutate_bytes, _spoil_member, _spoil_names),
        "legacy": Target(read_zip_checkpoint, old, mutate_bytes, _spoil_old),
        "ncnn": Target(read_pair, pair, mutate_bytes, _spoil_graph, _spoil_weights),
        "darknet": Target(read_darknet, darknet, mutate_bytes, _spoil_graph, _spoil_weights),
        "run file": Target(read_run, preset_text("yolov3-tiny").encode(), mutate_bytes, mutate_words),
        "nanodet yaml": Target(read_nanodet_yaml, _yaml(plus(320, "1.0x", 96)), mutate_bytes, mutate_words),
        "paddle yaml": Target(read_paddle_yaml, _paddle_yaml(), mutate_bytes, mutate_words),
        "manifest": Target(
            lambda data: read_manifest(data.decode(errors="surrogateescape"), "fuzz.onnx"),
            Manifest(model="m", classes=("a", "b"), preprocess=Preprocess(), falconet_version="1").to_json().encode(),
            mutate_bytes,
        ),
        "weights": Target(read_weights, own_weights(), mutate_bytes, _spoil_card),
        **{
            f"picture{suffix}": Target(
                lambda data: decode_image(data, "fuzz"), encode(smooth(120, 160), suffix), mutate_bytes
            )
            for suffix in (".jpg", ".png", ".tiff", ".gif", ".webp", ".bmp", ".ppm", ".jp2", ".avif")
            if cv2.haveImageWriter(f"a{suffix}")
        },
        "onnx": Target(lambda data: parse_convolutions(data, "fuzz.onnx"), files.onnx_model(), mutate_bytes),
    }


def main() -> None:
    """Runs every reader for its share of the seconds given on the command line."""
    import resource  # not on Windows

    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    everything = targets()
    for name, target in everything.items():
        rng = random.Random(f"{name} {seed}")
        count, end = 0, time.monotonic() + seconds / len(everything)
        while time.monotonic() < end:
            try:
                target.try_one(rng)
            except BaseException:
                Path(f"fuzz-{name}.bin").write_bytes(target.broken)
                print(f"{name}: broke at input {count}, kept in fuzz-{name}.bin")
                raise
            count += 1
        print(f"{name}: {count} inputs, none did anything but be read or refused")


if __name__ == "__main__":
    main()

"""`falconet batch` as a user calls it; what it writes, as other libraries read it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from falconet.cli import app
from falconet.core.errors import ConfigError, DataError, FalconetError
from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture, save


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_model.write(tmp_path / "m.onnx")
    for index in range(6):
        save(tmp_path / "in" / f"{index}.png", picture((0, index % 4, "red"), (2, 2, "blue"), value=100 + index))
    (tmp_path / "in" / "2.png").write_bytes(b"no picture")
    return tmp_path


def run(*words: str):
    import falconet.cli as cli

    cli._register("batch")
    return CliRunner().invoke(app, ["batch", *words])


def failure(*words: str) -> FalconetError:
    found = run(*words).exception
    assert isinstance(found, ConfigError | DataError)
    return found


@pytest.mark.usefixtures("folder")
def test_tables_and_what_is_told() -> None:
    result = run("in", "--model", "m.onnx", "--out", "out", "--block", "3")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("6 pictures in ")
    assert "1 picture could not be read; the rows say why" in result.stdout
    assert not Path("out", ".falconet.lock").exists()
    result = run("in", "--model", "m.onnx", "--out", "out", "--block", "3")
    assert "nothing is left to do: all 6 pictures are in out" in result.stdout


@pytest.mark.usefixtures("folder")
def test_pictures_that_could_not_be_read_are_tried_again() -> None:
    import pandas

    words = ("in", "--model", "m.onnx", "--out", "out", "--block", "2")
    run(*words)
    result = run("./in/", *words[1:])
    assert result.exit_code == 0
    assert "1 picture could not be read by an earlier run; --retry tries again" in result.stdout
    save(Path("in/2.png"), picture((0, 1, "red"), value=90))
    told = Path("in/2.png").stat()
    frame = pandas.read_parquet("out").set_index("source")
    assert frame.error.notna().sum() == 1
    again = run(*words, "--retry")
    assert "could not be read" not in again.stdout
    frame = pandas.read_parquet("out").set_index("source")
    assert frame.error.notna().sum() == 0
    assert len(frame) == 6
    assert told.st_size == Path("in/2.png").stat().st_size
    assert "in: is named twice" in str(failure("in", "in/", "--model", "m.onnx", "--out", "new"))


@pytest.mark.usefixtures("folder")
def test_other_libraries_read_it_in_a_line() -> None:
    import pandas
    import polars
    from pyarrow import dataset

    run("in", "--model", "m.onnx", "--out", "out", "--block", "2", "--classes", "red")
    frame = pandas.read_parquet("out").sort_values("source", ignore_index=True)
    assert frame.source.tolist() == [f"in/{index}.png" for index in range(6)]
    assert frame.labels[0].tolist() == ["red"]
    assert frame.error.notna().tolist() == [False, False, True, False, False, False]
    found = polars.read_parquet("out/*.parquet").filter(polars.col("error").is_null())
    assert found["labels"].to_list() == [["red"]] * 5
    assert dataset.dataset("out").count_rows() == 6


@pytest.mark.usefixtures("folder")
def test_errors() -> None:
    tiny_model.write(Path("n.onnx"), text=tiny_model.manifest(model="other").to_json())
    assert run("in", "--model", "m.onnx", "--out", "out").exit_code == 0
    assert "holds the results of another model, m.onnx" in str(failure("in", "--model", "n.onnx", "--out", "out"))
    message = str(failure("in", "--model", "m.onnx", "--out", "out", "--score", "0.9"))
    assert "holds the results of another run, with selection" in message
    assert "absent: no such file or folder" in str(failure("absent", "--model", "m.onnx", "--out", "new"))
    assert not Path("new").exists()
    assert "in/0.png: is a file" in str(failure("in", "--model", "m.onnx", "--out", "in/0.png"))
    both = failure("in", "--model", "m.onnx", "--out", "x", "--score", "0.5", "--operating-point", "f1")
    assert str(both).startswith("--score, --operating-point: both")


@pytest.mark.usefixtures("folder")
def test_two_models_compared() -> None:
    import json

    tiny_model.write(Path("n.onnx"), text=tiny_model.manifest(classes=("blue", "verde", "red")).to_json())
    assert run("in", "--model", "m.onnx", "--compare", "m.onnx", "--out", "same").exit_code == 0
    same = json.loads(Path("same/compare.json").read_text())
    assert (same["pictures"], same["alike"], same["broken"], same["most_different"]) == (5, 5, 1, [])
    save(Path("in/9.png"), picture((1, 1, "green"), (3, 3, "red")))
    result = run("in", "--model", "m.onnx", "--compare", "n.onnx", "--out", "other")
    assert "5 of 6 pictures are answered alike. Both give " in result.stdout
    found = json.loads(Path("other/compare.json").read_text())
    assert found["classes"]["green"] == {"both": 0, "first_alone": 1, "second_alone": 0}
    assert found["classes"]["verde"] == {"both": 0, "first_alone": 0, "second_alone": 1}
    assert [one["source"] for one in found["most_different"]] == ["in/9.png"]
    page = Path("other/compare.html").read_text()
    assert "in/9.png" in page
    assert "A: 2 boxes, 1 alone" in page
    assert not list(Path("other").glob("*.parquet"))
    assert run("in", "--model", "m.onnx", "--out", "tables").exit_code == 0
    message = str(failure("in", "--model", "m.onnx", "--compare", "n.onnx", "--out", "tables"))
    assert message.startswith("--out tables: holds tables of 'falconet batch'")


@pytest.mark.usefixtures("folder")
def test_models_that_cannot_be_compared() -> None:
    tiny_model.write(Path("n.onnx"), text=tiny_model.manifest(classes=("a", "b", "c")).to_json())
    message = str(failure("in", "--model", "m.onnx", "--compare", "n.onnx", "--out", "o"))
    assert message.startswith("--compare: the models have no class in common: blue, green, red")
    message = str(failure("in", "--model", "m.onnx", "--compare", "n.onnx", "--out", "o", "--cluster", "auto"))
    assert "leave --cluster out" in message


@pytest.mark.usefixtures("folder")
def test_not_a_single_picture_that_can_be_read() -> None:
    Path("list.txt").write_text("gone.png\n")
    result = run("list.txt", "--model", "m.onnx", "--out", "out")
    assert result.exit_code == 2
    assert "1 picture could not be read; the rows say why" in result.stdout


@pytest.mark.usefixtures("folder")
def test_parts_and_threads() -> None:
    import json

    words = ("in", "--model", "m.onnx", "--out", "out", "--block", "1")
    first = run(*words, "--part", "1/2", "--threads", "1")
    second = run(*words, "--part", "2/2", "--streams", "1", "--threads", "2")
    assert first.stdout.splitlines()[0].partition(" in ")[0].endswith(" of part 1/2")
    about = json.loads(Path("out/_falconet.json").read_text())
    assert about["runs"] == {
        "at_once": 1, "threads": 2, "why": "as asked for by --streams 1 and --threads 2", "curve": [],
    }  # fmt: skip
    assert "2/2" in second.stdout
    assert "nothing is left to do: all 6 pictures are in out" in run(*words).stdout
    assert not list(Path("out").glob(".*.lock"))


@pytest.mark.usefixtures("folder")
def test_how_it_is_run_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    from falconet.api import threads

    monkeypatch.setattr(threads, "busy_cpus", lambda: 0.0)
    monkeypatch.setattr("falconet.core.cpus.usable_cpus", lambda: 2)
    points = (threads.Point(1, 2, 40.0), threads.Point(2, 1, 10.0))
    monkeypatch.setattr(threads, "curve", lambda *_, **__: points)
    assert run("in", "--model", "m.onnx", "--out", "out").exit_code == 0
    runs = json.loads(Path("out/_falconet.json").read_text())["runs"]
    assert (runs["at_once"], runs["threads"]) == (1, 2)
    assert runs["why"].endswith("50.0 with 1, 100.0 with 2")
    assert [one["per_second"] for one in runs["curve"]] == [50.0, 100.0]


@pytest.mark.usefixtures("folder")
def test_options_that_exclude_one_another() -> None:
    words = ("in", "--model", "m.onnx", "--out", "out")
    for more, message in {
        ("--part", "1/2", "--cluster", "auto"): "--part, --cluster: a cluster shares out all of the work by itself",
        ("--part", "1/2", "--compare", "m.onnx"): "--part, --compare: a sample is compared as a whole",
        ("--streams", "2", "--cluster", "auto"): "--streams, --cluster: each process of a cluster has one run",
        ("--part", "3/2"): "--part 3/2: expected the number of a part and how many there are, as in 3/16",
    }.items():
        assert str(failure(*words, *more)).startswith(message)
    assert not Path("out").exists()

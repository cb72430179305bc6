import gc
import subprocess
import sys

from falconet.cli import startup


def test_collection_rests_until_the_start_is_over(monkeypatch):
    monkeypatch.setattr(gc, "freeze", lambda: None)  # would last for all other tests
    assert gc.isenabled()
    startup.finish()
    startup.begin()
    try:
        assert not gc.isenabled()
    finally:
        startup.finish()
    assert gc.isenabled()


def test_help_keeps_what_stands_in_brackets():
    command = [sys.executable, "-m", "falconet", "predict", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "[default: NanoDet-Plus-m of COCO's 80 classes, fetched once]" in " ".join(text.split())

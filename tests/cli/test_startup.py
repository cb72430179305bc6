import gc

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

"""What several threads do comes in order, and no further ahead than was asked for."""

import pytest

from falconet.core.in_order import in_order


def test_answers_in_order() -> None:
    answers = in_order(lambda one: one * 2, range(100), threads=3, ahead=6, name="test")
    assert list(answers) == [2 * one for one in range(100)]


def test_no_further_ahead() -> None:
    drawn: list[int] = []

    def items():
        for one in range(100):
            drawn.append(one)
            yield one

    answers = in_order(str, items(), threads=2, ahead=6, name="test")
    assert [next(answers) for _ in range(3)] == ["0", "1", "2"]
    assert len(drawn) == 8
    answers.close()
    assert len(drawn) == 8


def test_an_error_comes_in_its_place() -> None:
    def fail(one: int) -> int:
        if one == 5:
            raise ValueError("down")
        return one

    answers = in_order(fail, range(100), threads=3, ahead=6, name="test")
    assert [next(answers) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="down"):
        next(answers)

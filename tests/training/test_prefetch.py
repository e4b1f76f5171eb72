"""Batches made ahead: the same ones in the same order, and errors where they belong."""

import threading

import pytest

from metalora.training.prefetch import Prefetch


def test_the_next_batch_is_drawn_before_it_is_asked_for():
    drawn, second = [], threading.Event()

    def draw(step):
        drawn.append((step, threading.current_thread() is threading.main_thread()))
        if step == 1:
            second.set()
        return 10 * step

    with Prefetch(draw, 3) as batches:
        assert batches(0) == 0
        assert second.wait(10)  # nobody has asked for it
        assert [batches(1), batches(2)] == [10, 20]
    assert drawn == [(0, False), (1, False), (2, False)]  # and none beyond the last


def test_a_resumed_run_begins_where_it_stopped():
    with Prefetch(lambda step: step, 9) as batches:
        assert [batches(step) for step in (5, 6, 8)] == [5, 6, 8]


def test_not_ahead_draws_when_asked():
    drawn = []
    with Prefetch(lambda step: drawn.append(step) or step, 3, ahead=False) as batches:
        assert batches(0) == 0
        assert drawn == [0]


@pytest.mark.parametrize("ahead", [True, False])
def test_what_goes_wrong_is_raised_where_the_batch_is_asked_for(ahead):
    def draw(step):
        return 1 / (1 - step)

    with Prefetch(draw, 3, ahead=ahead) as batches:
        assert batches(0) == 1
        with pytest.raises(ZeroDivisionError):
            batches(1)

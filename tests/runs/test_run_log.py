"""The log of a run's steps, read while it grows."""

import json
import math
import time
from dataclasses import asdict

import pytest

from metalora.runs.run_log import last_event, logged, read_events, read_log
from metalora.training.loop import Progress


def progress(step, **more):
    return Progress(step, 9, {"loss": 1.5, "accuracy": 0.25, **more}, {"adapters": 0.01, "head": 0.02}, 120.0, 8.0)


def line(step, **more):
    return json.dumps(asdict(progress(step, **more))) + "\n"


def test_a_run_without_steps(tmp_path):
    assert read_events(tmp_path).empty and last_event(tmp_path) is None and read_log(tmp_path) == ""
    assert list(read_events(tmp_path).columns[:4]) == ["step", "loss", "accuracy", "validation"]


def test_columns_and_values(tmp_path):
    list(logged(iter([progress(1), progress(2, validation=0.5)]), tmp_path))
    frame = read_events(tmp_path)
    assert frame.step.tolist() == [1, 2] and frame.lr_adapters.tolist() == [0.01, 0.01]
    assert math.isnan(frame.validation[0]) and frame.validation[1] == 0.5
    assert (frame.loss[1], frame.images_per_second[1], frame.seconds_left[1]) == (1.5, 120.0, 8.0)
    assert last_event(tmp_path) == asdict(progress(2, validation=0.5))


def test_a_torn_line_waits_for_its_end(tmp_path):
    file, second = tmp_path / "events.jsonl", line(2)
    file.write_text(line(1) + second[:20])
    assert read_events(tmp_path).step.tolist() == [1]
    assert last_event(tmp_path)["step"] == 1
    with file.open("a") as log:
        log.write(second[20:] + line(3, validation=0.5))
    assert read_events(tmp_path).step.tolist() == [1, 2, 3]
    assert read_events(tmp_path).validation.tolist()[2] == 0.5


@pytest.mark.parametrize("again", [2, 4])
def test_a_resumed_run_replaces_steps(tmp_path, again):
    list(logged(map(progress, (1, 2, 3)), tmp_path))
    assert len(read_events(tmp_path)) == 3
    list(logged(map(progress, range(again, 7)), tmp_path))
    assert read_events(tmp_path).step.tolist() == [1, 2, 3, 4, 5, 6]


def test_what_is_returned_is_the_callers_own(tmp_path):
    list(logged(map(progress, (1, 2)), tmp_path))
    frame = read_events(tmp_path)
    frame["loss"] = 0.0
    assert read_events(tmp_path).loss.tolist() == [1.5, 1.5]


def test_ten_thousand_steps_are_read_once(tmp_path):
    with (tmp_path / "events.jsonl").open("w") as log:
        log.writelines(line(step) for step in range(1, 10_001))
    began = time.process_time()
    assert len(read_events(tmp_path)) == 10_000
    first, began = time.process_time() - began, time.process_time()
    assert len(read_events(tmp_path)) == 10_000
    assert time.process_time() - began < first / 5


def test_the_end_of_a_long_log(tmp_path):
    (tmp_path / "log.txt").write_text("".join(f"Training {i}\n" for i in range(5000)))
    assert read_log(tmp_path, 2) == "Training 4998\nTraining 4999"

"""The loop that every training shares."""

import itertools
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from metalora.training import loop
from metalora.training.loop import run_loop, warmup_cosine
from metalora.util.errors import InputError
from metalora.util.files import read_state
from metalora.util.seeding import seeded_generator


def make(seed=0):
    """A small regression: (step, parts, optimiser). Its batches depend on step and seed alone, its noise on torch's."""
    torch.manual_seed(seed)
    net = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    schedule = warmup_cosine(optimizer, 20)

    def step(i):
        x = torch.randn(8, 3, generator=seeded_generator(seed, i))
        loss = (net(x + 0.1 * torch.randn_like(x)) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return {"loss": loss.item()}

    return step, {"net": net, "optimizer": optimizer, "schedule": schedule}, optimizer


def run(made, checkpoint=None, identity=None):
    step, parts, optimizer = made
    return run_loop(step, 20, 8, optimizer, parts, identity or {"run": 1}, checkpoint=checkpoint)


def test_progress_counts_down_to_the_end():
    events = list(run(make()))
    assert [event.step for event in events] == list(range(1, 21))
    assert events[-1].seconds_left == 0
    assert all(event.images_per_second > 0 for event in events)
    assert events[-1].metrics["loss"] < events[0].metrics["loss"]


def lrs(*cycles):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, *cycles)
    found = []
    for _ in range(sum(cycles)):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found, optimizer.param_groups[0]["lr"]


def test_schedule_rises_over_a_twentieth_then_falls_to_zero():
    found, last = lrs(1000)
    assert found[:50] == pytest.approx([(i + 1) / 50 for i in range(50)])
    assert found[50:] == sorted(found[50:], reverse=True)
    assert found[50 + 475] == pytest.approx(0.5)
    assert last == pytest.approx(0.0, abs=1e-12)


def test_every_cycle_is_a_schedule_of_its_own():
    assert lrs(100, 50)[0] == lrs(100)[0] + lrs(50)[0]


def test_short_runs_warm_up_for_twenty_steps_or_a_third():
    assert lrs(100)[0].index(1.0) == 19
    assert lrs(30)[0].index(1.0) == 9
    assert lrs(1)[0] == [1.0]


@pytest.mark.parametrize("stop_at", [1, 7, 19])
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, stop_at):
    unbroken = make()
    list(run(unbroken))
    broken = make()
    for event in (events := run(broken, tmp_path / "state")):
        if event.step == stop_at:
            events.close()
            break
    resumed = make()
    resumed[1]["net"].weight.data.zero_()  # whatever it starts from does not matter
    torch.manual_seed(99)
    steps = [event.step for event in run(resumed, tmp_path / "state")]
    assert steps == list(range(stop_at + 1, 21))
    assert torch.equal(resumed[1]["net"].weight, unbroken[1]["net"].weight)


def test_an_interrupt_between_steps_saves_and_leaves(tmp_path):
    events = run(make(), tmp_path / "state")
    for _ in range(5):
        next(events)
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)
    assert next(event.step for event in run(make(), tmp_path / "state")) == 6


def test_an_interrupt_within_a_step_saves_no_half_step(tmp_path):
    made = make()

    def interrupted(i, step=made[0]):
        metrics = step(i)
        if i == 5:
            raise KeyboardInterrupt
        return metrics

    with pytest.raises(KeyboardInterrupt):
        list(run((interrupted, *made[1:]), tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    list(run(make(), tmp_path / "state"))
    with pytest.raises(InputError, match="other settings"):
        list(run(make(), tmp_path / "state", identity={"run": 2}))


def test_a_checkpoint_that_records_further_settings_is_resumed(tmp_path):
    list(run(make(), tmp_path / "state", identity={"training": {"rate": 1, "device": "cpu"}, "more": 3}))
    assert [event.step for event in run(make(), tmp_path / "state", identity={"training": {"lr": 1}})] == [20]
    for other in ({"training": {"lr": 2}}, {"training": {"lr": 1, "seed": 0}}):
        with pytest.raises(InputError, match="other settings"):
            list(run(make(), tmp_path / "state", identity=other))


def test_a_loss_that_is_not_finite_says_what_to_change():
    made = make()
    with pytest.raises(InputError, match=r"step 1: lower the learning rate \(now"):
        list(run((lambda i: {"loss": float("nan")}, *made[1:])))


def test_the_learning_rates_of_progress_are_those_of_its_step():
    found = [event.lrs["all"] for event in run(make())]
    assert found == pytest.approx([0.1 * factor for factor in lrs(20)[0]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_dropout_on_a_gpu_resumes_with_its_own_draws(tmp_path):
    def drawing(found):
        def step(i):
            found.append(torch.rand(3, device="cuda").tolist())
            return {"loss": 0.0}

        return step, *make()[1:]

    unbroken, resumed = [], []
    torch.cuda.manual_seed(0)
    list(run(drawing(unbroken)))
    torch.cuda.manual_seed(0)
    events = run(drawing(resumed), tmp_path / "state")
    next(events)
    events.close()
    torch.cuda.manual_seed(9)
    list(run(drawing(resumed), tmp_path / "state"))
    assert resumed == unbroken


def test_what_is_measured_before_the_first_step_is_step_0_and_is_not_measured_again(tmp_path):
    def begin(checkpoint):
        step, parts, optimizer = make()
        starts = []
        start = {"start": lambda: (starts.append(1), {"validation": 0.5})[1]}
        return run_loop(step, 20, 8, optimizer, parts, {"run": 1}, checkpoint=checkpoint, **start), starts

    events, starts = begin(tmp_path / "state")
    first = next(events)
    assert (first.step, first.metrics, first.seconds_left) == (0, {"validation": 0.5}, None)
    events.close()  # nothing is trained yet: it begins again
    events, starts = begin(tmp_path / "state")
    assert [next(events).step for _ in range(3)] == [0, 1, 2] and starts == [1]
    events.close()
    events, starts = begin(tmp_path / "state")
    assert next(events).step == 3 and not starts
    events.close()


@pytest.fixture
def saves(monkeypatch, tmp_path):
    """saves(steps, cost, size): when a training of steps of half a second is saved, each time for so many seconds."""
    now, saved = [0.0], []

    def timed(steps, cost=0.0, size=0):
        def write(path, state):
            saved.append(now[0])
            now[0] += cost

        def step(i):
            now[0] += 0.5
            return {"loss": 0.0}

        saved.clear()
        now[0] = 0.0
        monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(loop, "write_state", write)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        state = {"moments": [torch.empty(size, dtype=torch.uint8, device="meta")]}
        parts = {"model": SimpleNamespace(state_dict=lambda: state)}
        list(run_loop(step, steps, 8, optimizer, parts, {}, checkpoint=tmp_path / "none"))
        return list(saved)

    return timed


def test_a_short_training_is_saved_at_2_percent_of_its_time(saves):
    for steps, longest in ((40, 1.5), (400, 4.5), (10_000, 30.5)):  # 20 s, 200 s, 5000 s
        assert max(later - earlier for earlier, later in itertools.pairwise([0.0, *saves(steps)])) == longest


def test_saving_takes_at_most_2_percent_of_the_time_unless_30_seconds_would_be_lost(saves):
    for steps, cost in ((400, 0.1), (4000, 0.4), (40_000, 0.6), (40_000, 5.0)):
        saved = saves(steps, cost)
        assert len(saved) > 10 and cost * (len(saved) - 1) <= 0.02 * steps * 0.5
    saved = saves(400, 5.0)  # 200 s
    assert max(later - earlier - 5.0 for earlier, later in itertools.pairwise(saved)) == 30.5


def test_a_large_state_is_not_written_before_that_has_paid(saves):
    assert saves(4000, 0.4)[0] == 30.5
    assert saves(200, 0.4)[0] == 2.5 and saves(200, 0.4, size=100 * 10**6)[0] == 27.0


def test_a_loop_that_is_resumed_after_its_last_step_yields_it_again(tmp_path):
    last = list(run(make(), tmp_path / "state"))[-1]
    again = make()
    assert list(run(again, tmp_path / "state")) == [last]
    assert again[2].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)  # of a schedule that is over


def test_the_last_step_is_saved_before_it_is_yielded(tmp_path):
    events = run(make(), tmp_path / "state")
    while next(events).step < 20:
        pass
    assert read_state(tmp_path / "state")["step"] == 20
    before = (tmp_path / "state").stat().st_ino
    events.close()
    assert (tmp_path / "state").stat().st_ino == before


def test_an_interrupt_before_a_step_is_counted_saves_nothing(tmp_path, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    made = make()

    def step(i):
        monkeypatch.setattr(loop.time, "monotonic", interrupt)
        return made[0](i)

    with pytest.raises(KeyboardInterrupt):
        list(run((step, *made[1:]), tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_a_folder_that_was_deleted_is_not_made_again(tmp_path):
    (tmp_path / "run").mkdir()
    events = run(make(), tmp_path / "run" / "state")
    next(events)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(InputError, match="was deleted meanwhile"):
        list(events)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint(tmp_path):
    events = run(make(), tmp_path / "state")
    next(events)
    events.close()
    made = make()
    with pytest.raises(InputError, match="step 2"):
        list(run((lambda i: {"loss": float("inf")}, *made[1:]), tmp_path / "state"))
    assert read_state(tmp_path / "state")["step"] == 1

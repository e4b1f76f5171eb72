"""Calls on the workers of a cluster: results, deaths of workers, turns, and what is refused."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time

import pytest
from on_workers import begun, double, refuse, threads, work

from metalora.util import cluster as module
from metalora.util.cluster import Cluster, connect, is_shared, leave_if_cancelled, probe
from metalora.util.errors import InputError

PATIENCE = 300  # seconds, on a machine that may be busy


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def refusal(call):
    """What an InputError of a call says."""
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


def collect(results, calls):
    """Run a generator to its end in a thread, appending to a list."""
    thread = threading.Thread(target=lambda: results.extend(calls), daemon=True)
    thread.start()
    return thread


def test_results_come_with_the_numbers_of_their_calls(scheduler):
    with Cluster(scheduler) as cluster:
        assert dict(cluster.run(double, [(value,) for value in range(7)])) == {i: 2 * i for i in range(7)}
        assert dict(cluster.run(threads, [()])) == {0: 1}  # those of the worker


def test_a_refusal_names_the_worker_and_ends_the_other_calls(scheduler):
    with Cluster(scheduler) as cluster:
        calls = cluster.run(refuse, [("cat",), ("dog",)])
        with pytest.raises(InputError, match=r"^Worker tcp://[\d.:]+: There is no (cat|dog): name another\.$"):
            next(calls)
        assert not list(calls)


def test_a_call_whose_worker_is_killed_is_made_again(scheduler, tmp_path):
    with Cluster(scheduler) as cluster:
        results = []
        thread = collect(results, cluster.run(work, [(tmp_path, name, "go") for name in "ab"]))
        until(lambda: len(begun(tmp_path)) == 2)
        (killed, pid), _ = begun(tmp_path)
        os.kill(pid, signal.SIGKILL)
        until(lambda: [name for name, _ in begun(tmp_path)].count(killed) == 2)
        (tmp_path / "go").touch()
        thread.join(PATIENCE)
        assert sorted(name for _, (name, _) in results) == list("ab")
        assert dict(result for _, result in results)[killed] != pid


def test_calls_that_nobody_waits_for_end(scheduler, tmp_path):
    with Cluster(scheduler) as cluster:
        calls = cluster.run(work, [(tmp_path, "first", "now"), *((tmp_path, "later", "never") for _ in range(5))])
        (tmp_path / "now").touch()
        assert next(calls)[1][0] == "first"
        until(lambda: len(begun(tmp_path)) == 3)
        calls.close()
        # Both workers are free again, and no further call of those has begun.
        assert len(dict(cluster.run(double, [(value,) for value in range(4)]))) == 4
        assert len(begun(tmp_path)) == 3
    lost = Cluster(scheduler)
    lost.submit(work, tmp_path, "lost", "never")
    until(lambda: begun(tmp_path)[-1][0] == "lost")
    lost.client.close()  # as of a process that was killed
    with Cluster(scheduler) as cluster:
        assert len(dict(cluster.run(double, [(value,) for value in range(4)]))) == 4


def test_two_clients_take_turns(scheduler, tmp_path):
    with Cluster(scheduler) as one, Cluster(scheduler) as other:
        first, second = [], []
        threads = [collect(first, one.run(work, [(tmp_path, f"one{i}", f"one{i}") for i in range(12)]))]
        until(lambda: len(begun(tmp_path)) == 2)
        threads.append(collect(second, other.run(work, [(tmp_path, f"other{i}", f"other{i}") for i in range(3)])))
        until(lambda: len(other.client.futures) == 3)
        for done in range(15):
            until(lambda done=done: len(begun(tmp_path)) > done)
            (tmp_path / begun(tmp_path)[done][0]).touch()
        for thread in threads:
            thread.join(PATIENCE)
        assert (len(first), len(second)) == (12, 3)
        names = [name for name, _ in begun(tmp_path)]
        # Behind those that were at the scheduler already, two for each worker, not behind all of them.
        assert max(names.index(f"other{i}") for i in range(3)) < 10


def test_a_worker_with_many_threads_makes_one_call_at_a_time(tmp_path, local_cluster):
    with local_cluster(n_workers=1, threads_per_worker=4) as address, Cluster(address) as cluster:
        assert cluster.workers == 1
        results = []
        thread = collect(results, cluster.run(work, [(tmp_path, name, name) for name in "ab"]))
        until(lambda: len(begun(tmp_path)) == 1)
        time.sleep(1.5 * module.POLL_SECONDS)
        ((first, _),) = begun(tmp_path)
        (tmp_path / first).touch()
        until(lambda: len(begun(tmp_path)) == 2)
        (tmp_path / begun(tmp_path)[1][0]).touch()
        thread.join(PATIENCE)
        assert len(results) == 2
        assert dict(cluster.run(threads, [()])) == {0: 4}


@pytest.mark.slow
def test_a_call_that_kills_every_worker_is_given_up(tmp_path, local_cluster):
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        local_cluster(n_workers=1, threads_per_worker=1) as address,
        Cluster(address) as cluster,
    ):
        said = []
        calls = cluster.run(work, [(tmp_path, "a", "never")])
        thread = threading.Thread(target=lambda: said.append(refusal(lambda: list(calls))), daemon=True)
        thread.start()
        until(lambda: begun(tmp_path))
        os.kill(begun(tmp_path)[0][1], signal.SIGKILL)
        thread.join(PATIENCE)
        assert re.match(r"The same training ended 1 workers, at last tcp://[\d.:]+, whose log may say", said[0])


@pytest.mark.slow
def test_a_scheduler_that_is_lost_is_said(tmp_path, local_cluster, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 2)
    with local_cluster(n_workers=1, threads_per_worker=1) as address:
        cluster = Cluster(address)
        calls = cluster.run(work, [(tmp_path, "a", "go"), (tmp_path, "b", "never")])
        (tmp_path / "go").touch()
        next(calls)
        assert cluster.workers == 1
    assert f"connection to the scheduler {address} was lost" in refusal(lambda: next(calls))
    assert "was lost" in refusal(lambda: cluster.workers)
    cluster.client.close()


def test_what_does_not_answer_is_refused_in_time(monkeypatch):
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        nobody = refusal(lambda: Cluster(f"tcp://127.0.0.1:{port}"))
        deaf.listen()
        began = time.monotonic()
        silent = refusal(lambda: Cluster(f"tcp://127.0.0.1:{port}"))
        assert time.monotonic() - began < 10
    for said in (nobody, silent):
        assert said.startswith(f"No Dask scheduler answers at tcp://127.0.0.1:{port} in 0.5 seconds: start one")
    assert "No Dask scheduler answers at here (missing port number in address" in refusal(lambda: Cluster("here"))


def test_the_address_of_a_worker_is_refused(scheduler):
    with Cluster(scheduler) as cluster:
        (worker, _) = cluster.client.nthreads()
    assert f"answers at {worker} (it is the address of a worker)" in refusal(lambda: Cluster(worker))


def test_workers_of_another_version_are_refused(scheduler, monkeypatch):
    monkeypatch.setattr(module, "__version__", "9.9")
    assert re.match(
        r"The worker tcp://[\d.:]+ has metalora \d.*, this is metalora 9\.9: ", refusal(lambda: Cluster(scheduler))
    )
    monkeypatch.setattr(Cluster, "_check_workers", lambda self: None)  # as of a worker that comes later
    with Cluster(scheduler) as cluster:
        assert "this is metalora 9.9: " in refusal(lambda: list(cluster.run(double, [(1,)])))


def test_without_distributed_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert "pip install 'metalora[cluster]'" in refusal(lambda: Cluster("tcp://127.0.0.1:1"))


def test_a_cluster_without_workers_says_that_calls_wait(local_cluster):
    with local_cluster(n_workers=0) as address, pytest.warns(UserWarning, match="has no worker yet"):
        Cluster(address).client.close()


def test_a_scheduler_is_found_by_its_file(scheduler, tmp_path):
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": scheduler}))
    with connect(str(tmp_path / "scheduler.json")) as cluster:
        assert cluster.workers == 2
    with connect(None) as nothing:
        assert nothing is None


def test_folders_that_workers_share_are_told_by_a_file(scheduler, tmp_path, monkeypatch):
    with probe(tmp_path / "new") as file:
        assert is_shared(file)
    assert not is_shared(file) and not list((tmp_path / "new").iterdir())
    with Cluster(scheduler) as cluster:
        cluster.check_shared(tmp_path)
        monkeypatch.setattr(module, "probe", lambda folder: contextlib.nullcontext(folder / "elsewhere"))
        with pytest.raises(InputError, match=rf"The worker tcp://.* cannot write in {tmp_path}: choose a folder"):
            cluster.check_shared(tmp_path)


def test_outside_a_cluster_no_call_is_cancelled():
    assert leave_if_cancelled() is None


@pytest.mark.slow
def test_a_worker_that_is_retired_gives_its_call_to_another(tmp_path, local_cluster):
    with local_cluster(n_workers=2, threads_per_worker=1) as address, Cluster(address) as cluster:
        results = []
        thread = collect(results, cluster.run(work, [(tmp_path, "a", "go")]))
        until(lambda: begun(tmp_path))
        ((_, pid),) = begun(tmp_path)
        (worker,) = (address for address, other in cluster.client.run(os.getpid).items() if other == pid)
        cluster.client.retire_workers([worker], close_workers=True)
        until(lambda: len(begun(tmp_path)) == 2)
        (tmp_path / "go").touch()
        thread.join(PATIENCE)
        ((_, (_, last)),) = results
        assert last != pid

"""Several processes that compute together, started as a launcher does: each with its rank in the environment."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def start(*words, count=2, module="metalora", folders=(None, None)):
    """Start `count` processes of `python -m MODULE`, each in its folder; the processes, the first one first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-m", module, *map(str, words)]
    return [
        subprocess.Popen(
            command,
            cwd=folders[rank],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes, timeout=300):
    """Wait for all of them; their exit codes, and what each printed: (code, output, errors)."""
    try:
        return [(process.returncode, *said) for process in processes for said in [process.communicate(timeout=timeout)]]
    finally:
        for process in processes:
            process.kill()


def wait_for(condition, processes, timeout=120):
    """Wait until a condition holds, or a process ends."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until and all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.05)


def launch(*words, **settings):
    """Start processes and wait for all of them, see `start` and `finish`."""
    return finish(start(*words, **settings))

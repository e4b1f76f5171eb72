#!/usr/bin/env bash
# Runs the tests from a fresh clone: makes .venv with the `dev` extra if there is none, then runs all that is not slow.
# Arguments go to pytest: bash tests/run.sh -m slow; bash tests/run.sh --cov (prints branch coverage; slower)
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/installed
if ! cat requirements.txt pyproject.toml | cmp -s - "$stamp"; then
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
    cat requirements.txt pyproject.toml > "$stamp"
fi
# The browser tests drive a Chromium; Playwright's own is not needed.
if ! { [ -n "${CHROMIUM:-}" ] || command -v chromium || command -v google-chrome; } > /dev/null; then
    apt-get update -qq && apt-get install -y -qq chromium > /dev/null
fi
# One thread per worker: two workers with two threads each are slower than one.
workers=$(nproc)
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest --numprocesses "$workers" --dist loadfile -q "$@"

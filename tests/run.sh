#!/usr/bin/env bash
# Runs the tests from a fresh clone: makes .venv if there is none, then everything that is not slow.
# Arguments go to pytest: bash tests/run.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/installed
if ! cmp -s requirements.txt "$stamp"; then
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt pytest pytest-xdist ruff hatchling hatch-requirements-txt playwright axe-playwright-python psutil peft
    cp requirements.txt "$stamp"
fi
# The browser tests drive a Chromium; Playwright's own is not needed.
if ! { [ -n "${CHROMIUM:-}" ] || command -v chromium || command -v google-chrome; } > /dev/null; then
    apt-get update -qq && apt-get install -y -qq chromium > /dev/null
fi
# One thread per worker: two workers with two threads each are slower than one.
workers=$(nproc)
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest --numprocesses "$workers" --dist loadfile -q "$@"

#!/usr/bin/env bash
# Measures the figures of docs/explanation/dependability.md and writes them into the page: bash tests/figures.sh
# It takes half an hour of a machine that does nothing else. PYTHON is an environment with the `dev` extra.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    bash tests/run.sh --version > /dev/null # makes the environment
    PYTHON=.venv/bin/python
fi
export METALORA_FIGURES=$PWD/assets/results/dependability.json PYTHONPATH=$PWD OMP_NUM_THREADS=1
rm -f "$METALORA_FIGURES"
slow=("$PYTHON" -m pytest -q -m slow) quick=("$PYTHON" -m pytest -q)
"$PYTHON" tests/load.py --visitors 50 --minutes 10
"${slow[@]}" tests/resilience/test_overhead.py
"${slow[@]}" tests/resilience/test_kills.py
"${slow[@]}" tests/attack
"${quick[@]}" tests/training/test_several_processes.py
"${quick[@]}" tests/experiments/test_cluster_jobs.py
"$PYTHON" tests/scans.py
"$PYTHON" docs/tools/tables.py

#!/usr/bin/env bash
# Does what a GPU is for: tests that compare it with the CPU, times, and then the trainings that studies lack.
# Rows go to a folder as they come, so a call that is cut off loses little, and the next one does what is left.
#   bash tests/gpu/run.sh [--device cpu] [FOLDER]
# FOLDER is assets/results/gpu; of a CPU, which gets small shapes, build/gpu.
# TESTS=150 and TIMES=270 are seconds of these parts; trainings get what is then left of TOTAL=560.
# PYTHON is python3, DATA is data. It gets the wheels in build/wheels, from wheels.py, of packages that it lacks.
set -uo pipefail
cd "$(dirname "$0")/../.."
device=cuda out=assets/results/gpu total=${TOTAL:-560} python=${PYTHON:-python3}
if [ "${1:-}" = --device ]; then device=$2 out=build/gpu && shift 2; fi
out=${1:-$out}
mkdir -p "$out"
if [ -d build/wheels ]; then
    env=build/gpu-env
    "$python" -m venv --without-pip "$env" || exit 1
    # All that PYTHON sees, which may be in an environment itself.
    "$python" -c 'import sys; print(*filter(None, sys.path), sep="\n")' > "$(echo "$env"/lib/python3*/site-packages)/all.pth"
    python=$env/bin/python
    names=$(cd build/wheels && printf '%s\n' *.whl | cut -d- -f1)
    # shellcheck disable=SC2086  # names have no spaces
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --find-links build/wheels $names \
        || exit 1
fi
export PYTHONPATH=$PWD METALORA_DEVICE=$device PYTHONUNBUFFERED=1
if [ "$device" = cpu ]; then
    export CUDA_VISIBLE_DEVICES=
elif ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "torch finds no GPU here: add --device cpu to try it." >&2 && exit 2
fi
status=0

part() { # name, seconds, command: what outruns its time is interrupted
    local limit=$((total - SECONDS)) code
    [ "$2" -lt "$limit" ] && limit=$2
    [ "$limit" -gt 0 ] || return 124
    echo "== $1, at most $limit seconds"
    timeout --signal=INT --kill-after=20 "$limit" "${@:3}"
    code=$?
    if [ "$code" = 124 ]; then
        echo "== $1: out of time"
    elif [ "$code" != 0 ]; then
        echo "== $1: exit code $code" && status=1
    fi
    return "$code"
}

rows=$out/tests.partial.jsonl
if [ ! -e "$out/tests.jsonl" ]; then
    rm -f "$rows"
    part tests "${TESTS:-150}" env GPU_ROWS="$rows" "$python" -m pytest tests/gpu -q -W default -p no:cacheprovider \
        && mv "$rows" "$out/tests.jsonl"
fi
part times "${TIMES:-270}" "$python" tests/gpu/times.py "$out" --seconds "${TIMES:-270}"
part trainings "$total" "$python" tests/gpu/seeds.py "$out/seeds" --data "${DATA:-data}"
exit "$status"

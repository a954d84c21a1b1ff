#!/usr/bin/env bash
# Everything that has to hold before a change is merged: environment, ruff, pyright, pytest.
#
#   bash test.sh                  all of it
#   bash test.sh fast             without the tests that run the training stack; under two minutes
#   bash test.sh [fast] ARG...    the rest goes to pytest: bash test.sh fast -k drawing
#
# Every check runs even if an earlier one failed; the last lines say which did. Caches go to .cache/.
# Settings, from the environment: those of setup.sh (VENV, DEVICE, PYTHON, ...).
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
started=$SECONDS
[[ -z ${VENV:-} ]] || VENV=$(realpath -ms "$VENV") # relative to where the user stands, as in setup.sh
cd "$(dirname "${BASH_SOURCE[0]}")"
export VENV=${VENV:-$PWD/.venv}
exec </dev/null

selection=()
if [[ ${1:-} == fast ]]; then
  shift
  selection=(-m "not engine" -n 2 --dist worksteal)
fi

bash setup.sh
export PATH="$VENV/bin:$PATH" VIRTUAL_ENV="$VENV"
export XDG_CACHE_HOME="$PWD/.cache" RUFF_CACHE_DIR="$PWD/.cache/ruff" HYPOTHESIS_STORAGE_DIRECTORY="$PWD/.cache/hypothesis"
unset PYTHONPATH PYTHONHOME

failed=()
check() { # check NAME COMMAND...
  local name=$1 since=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  "$@" || failed+=("$name")
  printf '%s: %d s\n' "$name" "$((SECONDS - since))"
}
check "ruff check" ruff check .
check "ruff format" ruff format --check .
types=$(mktemp)
pyright --pythonpath "$VENV/bin/python" >"$types" 2>&1 & # beside the tests, which use one core most of the time
pyright=$!
trap 'rm -f "$types"; kill $pyright 2>/dev/null || true' EXIT
check "pytest" python -m pytest -o cache_dir=.cache/pytest "${selection[@]+"${selection[@]}"}" "$@"
told() { # told PID FILE: waits for a command in the background, shows its output, ends as it did
  local status=0
  wait "$1" || status=$?
  cat "$2"
  return "$status"
}
check "pyright" told "$pyright" "$types"

printf '\n%d s in all. ' "$((SECONDS - started))"
if ((${#failed[@]})); then
  printf 'FAILED:%s\n' "$(printf ' [%s]' "${failed[@]}")"
  exit 1
fi
printf 'All checks passed.\n'

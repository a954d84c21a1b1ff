#!/usr/bin/env bash
# Regenerates the locks in this folder from the *.in files:
#   cpu.txt cuda.txt    the environment of setup.sh, for CPython 3.11 and 3.12 on Linux x86_64
#   deepspeed.txt       DeepSpeed itself, built from source in a second step (its requirements are in cuda.txt)
#   build.txt uv.txt    what builds source packages, and the installer
#   easyr1-cpu.txt easyr1-cuda.txt    the environment of setup.sh --easyr1
#
# Each lock names one version and its hashes for every package; none holds an index or another address, so that it
# installs from any mirror. Versions already in a lock are kept unless the *.in files say otherwise.
#
# usage: bash requirements/compile.sh [--upgrade | --upgrade-package NAME | other options of `uv pip compile`]
# Needs uv on the PATH (`pip install uv`), or UV=/path/to/uv. Nothing is installed.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")"

uv=${UV:-uv}
"$uv" --version >/dev/null || { echo "compile.sh: no working uv; install it (pip install uv) or set UV=" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export UV_CUSTOM_COMPILE_COMMAND="bash requirements/compile.sh" # stands in the head of each lock
export DS_BUILD_OPS=0 # DeepSpeed's metadata is made by running its setup.py; this keeps it from compiling kernels

# lock PYTHON_VERSION OUTPUT INPUT [OPTION...]
# The platform is fixed rather than universal: with a universal one uv reads the requirements of each package from any one
# of its wheels and so misses a library that only the Linux wheels of intel-openmp ask for.
lock() {
  local python=$1 output=$2 input=$3
  shift 3
  "$uv" pip compile --quiet --python-version "$python" --python-platform x86_64-manylinux_2_28 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --output-file "$output" "$@" "$input"
}

# One file for both Pythons: resolve for the older, then check that the newer agrees with every line of it.
both() {
  local name=$1
  shift
  lock 3.11 "$name.txt" "$name.in" "$@"
  cp "$name.txt" "$work/$name.txt"
  lock 3.12 "$work/$name.txt" "$name.in" -c "$name.txt" "$@"
  if ! diff <(grep -E '^[a-z0-9]' "$name.txt") <(grep -E '^[a-z0-9]' "$work/$name.txt"); then
    echo "compile.sh: $name.in resolves differently for Python 3.11 (<) and 3.12 (>)." >&2
    echo "Pin the lines above in common.in or easyr1.in to versions that both can use." >&2
    return 1
  fi
}

both cpu --override overrides.txt "$@"
[[ -e cuda.txt ]] || cp cpu.txt cuda.txt # a new lock starts from the versions of the other one
both cuda --no-emit-package deepspeed "$@"
both deepspeed --no-deps "$@"
both build "$@"
both uv "$@"
for device in cpu cuda; do # new locks start from the versions of the main ones here too
  [[ -e easyr1-$device.txt ]] || cp "$device.txt" "easyr1-$device.txt"
done
both easyr1-cpu --override easyr1-overrides.txt "$@"
both easyr1-cuda "$@"

# Not even a private mirror's address from the user's configuration may end up here.
locks=(./{cpu,cuda,deepspeed,build,uv,easyr1-cpu,easyr1-cuda}.txt)
sed -i -E '/^ *(--(index|default-index|index-url|extra-index-url|find-links|trusted-host)|-[if])\b/d' "${locks[@]}"
if grep -nE '://|^-' "${locks[@]}"; then
  echo "compile.sh: the lines above hold an address or an option" >&2
  exit 1
fi
wc -l "${locks[@]}"

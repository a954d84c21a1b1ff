# Read by setup.sh for --easyr1: where that environment and EasyR1's source are. The rest is as for the main one.
# shellcheck shell=bash disable=SC2034,SC2154

EASYR1_URL=https://github.com/hiyouga/EasyR1
easyr1_commit=$(<"$root/requirements/easyr1-commit.txt")

lock=easyr1-$DEVICE
recipe=("$lock.txt" easyr1.sh easyr1-commit.txt build.txt uv.txt)
setting=EASYR1_VENV again="bash setup.sh --easyr1" next="ENGINE=easyr1 bash train/rl/train_grpo.sh --dry-run"
VENV=${EASYR1_VENV:-$root/.venv-easyr1} # not VENV=, which may be exported and name the main one
if [[ $DEVICE == cuda ]]; then need=11; else need=9; fi
# Not `sync`, which would take away flash-attn, installed by the user; without the requirements of each, as the lock has
# them all.
installer=(install --no-deps -r)

easyr1_git() { git -c "safe.directory=*" --no-optional-locks -C "$source" "$@" 2>/dev/null; }

# Stops unless $source is EasyR1 at the pinned commit, as far as one can see; $1 is what to call it.
check_source() {
  local head part
  [[ -d $source ]] || die "$1 is '$source', which is no folder."
  for part in trainer/main.py trainer/data_loader.py workers/fsdp_workers.py workers/rollout/vllm_rollout_spmd.py; do
    [[ -e $source/verl/$part ]] ||
      die "$1 is '$source', which is not EasyR1: it has no verl/$part." \
        "Give it the root of a clone of $EASYR1_URL, or leave it unset and setup.sh makes one."
  done
  if [[ ! -e $source/.git ]]; then
    say "EasyR1: $source is no git clone, so it is taken on trust to be commit ${easyr1_commit:0:7}."
  elif ! head=$(easyr1_git rev-parse HEAD); then
    say "EasyR1: git cannot read $source, so it is taken on trust to be at commit ${easyr1_commit:0:7}."
  elif [[ $head != "$easyr1_commit" ]]; then
    die "$1 is '$source', which is at commit ${head:0:7}; this project works with ${easyr1_commit:0:7}." \
      "Either: git -C '$source' fetch '$EASYR1_URL' $easyr1_commit && git -C '$source' checkout $easyr1_commit" \
      "or:     leave EASYR1_HOME unset, and setup.sh makes a clone of its own."
  elif [[ -n $(easyr1_git status --porcelain --untracked-files=no -- verl) ]]; then
    say "WARNING: $source has changes of its own in verl/ (git status tells); what follows from them is not tested here."
  fi
}

# A clone of our own is made beside its place and then moved there, so what stands there is whole.
clone_source() {
  command -v git >/dev/null || die "git is not installed; it is needed to fetch EasyR1." \
    "Install it (apt-get install git, dnf install git), or name a copy of EasyR1 at ${easyr1_commit:0:7}: EASYR1_HOME=..."
  say "Fetching EasyR1 at ${easyr1_commit:0:7} from $EASYR1_URL"
  local new=$source.new
  rm -rf "$new"
  git init --quiet "$new"
  if ! GIT_TERMINAL_PROMPT=0 git -C "$new" fetch --quiet --depth 1 "$EASYR1_URL" "$easyr1_commit" ||
    ! git -C "$new" -c advice.detachedHead=false checkout --quiet "$easyr1_commit"; then
    rm -rf "$new"
    die "EasyR1 could not be fetched (see above)." \
      "Without access to $EASYR1_URL: clone it elsewhere, copy the folder here, and" \
      "EASYR1_HOME=/path/to/EasyR1 $again"
  fi
  mv "$new" "$source"
}

if [[ -n $EASYR1_HOME ]]; then
  source=$(realpath -ms "$EASYR1_HOME")
  check_source EASYR1_HOME
else
  source=$root/.cache/EasyR1-${easyr1_commit:0:7}
  [[ ! -e $source ]] || check_source "the clone of EasyR1"
fi

get_source() { [[ -e $source ]] || clone_source; }

# A path file, not an installation: EasyR1 stays as it is, and every process of this interpreter, Ray's too, finds it.
add_source() {
  local site
  site=$("$py" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\n' "$source" >"$site/easyr1.pth"
}

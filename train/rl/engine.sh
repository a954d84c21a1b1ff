# Sourced by the scripts beside it: what ENGINE (verl or easyr1) means. Needs ROOT; sets module, recipe and PYTHON.
ENGINE=${ENGINE:-verl}
case $ENGINE in
  verl) module=vilasr.training.grpo.launch recipe=config_grpo.yaml venv=$ROOT/.venv setup="bash setup.sh" ;;
  easyr1)
    module=vilasr.training.easyr1.launch recipe=config_grpo_easyr1.yaml
    venv=${EASYR1_VENV:-$ROOT/.venv-easyr1} setup="bash setup.sh --easyr1"
    ;;
  *)
    echo "${0##*/}: ENGINE is '$ENGINE'; it may be verl or easyr1" >&2
    exit 2
    ;;
esac
PYTHON=${PYTHON:-$venv/bin/python}
command -v "$PYTHON" >/dev/null || {
  echo "${0##*/}: no interpreter $PYTHON; run $setup first, or name one: PYTHON=..." >&2
  exit 1
}

# shellcheck shell=bash
# shellcheck disable=SC2034  # the variables are for the scripts that source this
# Shared by the scripts of this folder and sourced by them: flags, the env file, run-or-print.

LAUNCH=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ENV_FILE=$LAUNCH/run.env
DRY_RUN=no
VERB=

say() { echo "$(date +%H:%M:%S) $*"; }

fail() { # MESSAGE [EXIT_CODE]
  echo "error: $1" >&2
  exit "${2:-2}"
}

# The words of a command as one line that a shell, or a reader, takes apart again.
quoted() {
  local word line=
  for word in "$@"; do
    [[ $word =~ ^[a-zA-Z0-9_./:=@%+,-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

# Runs a command, or prints it.
run() {
  if [[ $DRY_RUN == yes ]]; then quoted "$@"; else "$@"; fi
}

# Compiler flags for a chip, for the env file: the lines of flags/CHIP without their reasons.
recommended() { # CHIP
  [[ -f $LAUNCH/flags/$1 ]] || fail "recommended $1: there is no $LAUNCH/flags/$1"
  sed -n 's/^\(--[^[:space:]#]*\).*/\1/p' "$LAUNCH/flags/$1" | paste -sd' ' -
}

# Reads a script's words into VERB, ENV_FILE and DRY_RUN, then the env file. $1: the allowed verbs, empty for none.
read_words() {
  local verbs=$1 word
  shift
  for word in "$@"; do
    case $word in
      --env=*) ENV_FILE=${word#--env=} ;;
      --dry-run) DRY_RUN=yes ;;
      -h | --help)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
      *)
        [[ -z $VERB && " $verbs " == *" $word "* ]] || fail "unexpected word '$word'; $(basename "$0") --help says what there is"
        VERB=$word
        ;;
    esac
  done
  [[ -z $verbs || -n $VERB ]] || fail "say what to do: one of $verbs"
  [[ -f $ENV_FILE ]] || fail "$ENV_FILE: no such file"
  # The file is the one place: nothing of it comes from the caller's environment.
  local names
  mapfile -t names < <(sed -n 's/^\([A-Z_]*\)=.*/\1/p' "$LAUNCH/run.env")
  unset "${names[@]}"
  BUCKET='' XLA_FLAGS='' LIBTPU_INIT_ARGS='' OVERRIDES=() CREATE_FLAGS=() SBATCH_FLAGS=()
  # shellcheck source=launch/run.env
  source "$ENV_FILE"
}

# Stops unless all these variables have a value.
need() {
  local name
  for name in "$@"; do
    [[ -n ${!name:-} ]] || fail "$ENV_FILE: $name is missing or empty"
  done
}

need_number() {
  local name
  need "$@"
  for name in "$@"; do
    [[ ${!name} =~ ^(0|[1-9][0-9]*)$ ]] || fail "$ENV_FILE: $name='${!name}': must be a whole number"
  done
}

need_count() {
  local name
  need_number "$@"
  for name in "$@"; do
    ((${!name} > 0)) || fail "$ENV_FILE: $name='${!name}': must be 1 or more"
  done
}

need_one_of() { # NAME VALUE...
  local name=$1
  need "$name"
  shift
  [[ " $* " == *" ${!name} "* ]] || fail "$ENV_FILE: $name='${!name}': must be one of $*"
}

# Stops unless the run's folder and the data lie in the folder that containers get; elsewhere they would end with them.
need_bucket() {
  need BUCKET
  [[ $BUCKET == /* && $WORKDIR == "$BUCKET"/* && $DATA == "$BUCKET"/* ]] ||
    fail "$ENV_FILE: WORKDIR='$WORKDIR' DATA='$DATA': must lie in BUCKET='$BUCKET', a folder; containers see nothing else of the host"
}

# Checks what every run needs, and sets TRAIN to the words of the training command after `python`.
need_run() {
  need RUN CONFIG WORKDIR DATA
  [[ $RUN =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
    fail "$ENV_FILE: RUN='$RUN': must be lower-case letters, digits and hyphens, a letter first, 40 at most"
  [[ $WORKDIR$DATA != *://* ]] || fail "$ENV_FILE: WORKDIR='$WORKDIR' DATA='$DATA': must be folders that all hosts see; mount a bucket"
  TRAIN=(-m rsfm_jax.train --cluster "--config=$CONFIG" "--workdir=$WORKDIR" "--config.data.path=$DATA" "${OVERRIDES[@]}")
}

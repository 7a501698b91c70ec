#!/usr/bin/env bash
# Cloud TPU, looked after until the run is done: tpu_babysit.sh [--env=FILE] [--dry-run]
# Asks for the TPU, waits for it, trains, and asks anew when it was taken away. Safe to stop (Ctrl-C) and to start again at any time:
# the TPU and the training go on, and it takes them up where they are. Ends with
#   0    the run is done
#   2    training refused its input; its message is above
#   130  training was stopped by hand on its host
#   1    given up: quota, permission, or too many recreations, interruptions or crashes without progress
# and gives the TPU back first, unless ON_STOP=keep.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
read_words "" "$@"
need_number POLL_S PROGRESS_S MAX_RECREATIONS MAX_INTERRUPTIONS MAX_CRASHES MAX_CRASHES_IN_ALL
need_one_of ON_STOP delete keep

tpu() { "$LAUNCH/tpu.sh" "$@" "--env=$ENV_FILE"; }

MAX_BLIND_LOOKS=10 # in a row, that gcloud fails to answer, or to delete
REFUSED='quota|permission'
PASSING='unavailable|deadline|aborted|internal|already_exists|timed out|connection'
shopt -s nocasematch
created=0 interruptions=0 crashes=0 crashes_in_all=0 undeleted=0 blind=0 last=

finish() { # EXIT_CODE MESSAGE
  say "$2"
  if [[ $ON_STOP == keep ]]; then
    say "ON_STOP=keep: the TPU is kept, and paid for, until tpu.sh delete"
  elif [[ $(tpu state) != MISSING ]]; then
    tpu delete || fail "the TPU could not be deleted, and is paid for until tpu.sh delete" 1
  fi
  exit "$1"
}

create() {
  local answer
  if ((created > MAX_RECREATIONS)); then
    finish 1 "given up: recreated $MAX_RECREATIONS times (MAX_RECREATIONS) without $PROGRESS_S s of training"
  fi
  created=$((created + 1))
  say "asking for the TPU, time $created"
  if answer=$(tpu create 2>&1); then
    echo "$answer"
  elif [[ ! $answer =~ $REFUSED && $answer =~ $PASSING ]]; then
    say "not answered, trying again: $answer"
    sleep "$POLL_S"
  else
    say "refused: $answer"
    exit 1
  fi
}

count_stop() { # CODE
  case $1 in
    1 | 42 | 143 | 255) interruptions=$((interruptions + 1)) ;;
    *) crashes=$((crashes + 1)) crashes_in_all=$((crashes_in_all + 1)) ;;
  esac
  say "training stopped with exit code $1 ($interruptions of $MAX_INTERRUPTIONS interruptions, $crashes of $MAX_CRASHES crashes)"
  ((interruptions <= MAX_INTERRUPTIONS)) || finish 1 "given up: MAX_INTERRUPTIONS without $PROGRESS_S s of training"
  ((crashes <= MAX_CRASHES)) || finish 1 "given up: MAX_CRASHES without $PROGRESS_S s of training"
  # The same step may crash for ever, each time after hours that look like progress.
  ((crashes_in_all <= MAX_CRASHES_IN_ALL)) || finish 1 "given up: MAX_CRASHES_IN_ALL"
  # Hosts that still train would be in the way of the next start; where gcloud or ssh broke they all may, and should.
  if (($1 != 1 && $1 != 255)); then tpu stop || true; fi
  sleep "$POLL_S"
}

train() {
  local code=0 began=$SECONDS
  tpu train || code=$?
  if ((SECONDS - began >= PROGRESS_S)); then created=1 interruptions=0 crashes=0; fi
  case $code in
    0) finish 0 "done" ;;
    2) finish 2 "training refused its input" ;;
    130) finish 130 "training was stopped by hand" ;;
    *) count_stop "$code" ;;
  esac
}

replace() { # MESSAGE
  if ! tpu delete; then
    undeleted=$((undeleted + 1))
    ((undeleted < MAX_BLIND_LOOKS)) || fail "the TPU could not be deleted $undeleted times; it is there, and may be paid for" 1
    sleep "$POLL_S"
    return
  fi
  undeleted=0
  if [[ $1 =~ $REFUSED ]]; then
    say "given up: $1"
    exit 1
  fi
  interruptions=0 crashes=0
}

look() {
  local answer state
  if answer=$(tpu state); then
    blind=0
  else
    blind=$((blind + 1))
    ((blind < MAX_BLIND_LOOKS)) || fail "gcloud does not answer; the TPU may be there, and be paid for" 1
    answer=UNKNOWN
  fi
  state=${answer%%[[:space:]]*}
  [[ $answer == "$last" ]] || say "$answer"
  last=$answer
  case $state in
    MISSING) create ;;
    ACTIVE) train ;;
    SUSPENDED | FAILED) replace "$answer" ;;
    *) sleep "$POLL_S" ;;
  esac
}

tpu state --dry-run >/dev/null # stops here where the env file is not complete
if [[ $DRY_RUN == yes ]]; then
  for verb in create state train stop delete; do tpu "$verb" --dry-run; done
  exit 0
fi
leave() {
  say "stopped looking; the TPU and the training go on: the same command takes them up, tpu.sh stop and tpu.sh delete end them"
  exit 130
}
trap leave INT TERM
while true; do look; done

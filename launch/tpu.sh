#!/usr/bin/env bash
# Cloud TPU, one step at a time: tpu.sh VERB [--env=FILE] [--dry-run]
#   create  asks for the TPU (a queued resource) and returns; it comes when there is one
#   state   prints its state, MISSING when there is none, and why it FAILED
#   train   starts training on all hosts, unless it runs there, and follows process 0; exits with its exit code, 3 where that is 1,
#           for 1 and 255 are what gcloud and ssh end with where they fail themselves
#   stop    ends training on all hosts: saved, exit code 42; the same `train` continues
#   delete  gives the TPU back
# tpu_babysit.sh does all of it, again and again.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
read_words "create state train stop delete" "$@"
need_run
need_bucket
need PROJECT ZONE ACCELERATOR_TYPE RUNTIME_VERSION IMAGE
need_count SLICES
need_one_of CAPACITY spot reserved on-demand

TPUS=(gcloud compute tpus)
WHERE=("--project=$PROJECT" "--zone=$ZONE" --quiet)
# A host that was taken away says nothing: without these, ssh would wait for it for ever.
ALIVE="--ssh-flag=-o ServerAliveInterval=30 -o ConnectTimeout=20"
if ((SLICES > 1)); then NODE_0=$RUN-0; else NODE_0=$RUN; fi

create() {
  local flags=("--node-id=$RUN")
  if ((SLICES > 1)); then flags=("--node-count=$SLICES" "--node-prefix=$RUN"); fi
  if [[ $CAPACITY != on-demand ]]; then flags+=("--$CAPACITY"); fi
  run "${TPUS[@]}" queued-resources create "$RUN" "${flags[@]}" "--accelerator-type=$ACCELERATOR_TYPE" \
    "--runtime-version=$RUNTIME_VERSION" "${CREATE_FLAGS[@]}" --async "${WHERE[@]}"
}

state() {
  local answer errors said code=0 command=("${TPUS[@]}" queued-resources describe "$RUN")
  command+=("--format=value(state.state,state.failedData.error.message)" "${WHERE[@]}")
  if [[ $DRY_RUN == yes ]]; then
    quoted "${command[@]}"
    return
  fi
  errors=$(mktemp)
  answer=$("${command[@]}" 2>"$errors") || code=$?
  said=$(<"$errors")
  rm "$errors"
  if ((code == 0)); then
    echo "${answer//$'\n'/ }"
  elif [[ $said == *NOT_FOUND* ]]; then
    echo MISSING
  else
    fail "$said" 1
  fi
}

on_all_hosts() {
  if ((SLICES > 1)); then
    run "${TPUS[@]}" queued-resources ssh "$RUN" --node=all --worker=all "$ALIVE" "--command=$1" "${WHERE[@]}"
  else
    run "${TPUS[@]}" tpu-vm ssh "$RUN" --worker=all "$ALIVE" "--command=$1" "${WHERE[@]}"
  fi
}

train() {
  local flags=("--mount=type=bind,source=$BUCKET,target=$BUCKET") script
  if [[ -n $XLA_FLAGS ]]; then flags+=("--env=XLA_FLAGS=$XLA_FLAGS"); fi
  if [[ -n $LIBTPU_INIT_ARGS ]]; then flags+=("--env=LIBTPU_INIT_ARGS=$LIBTPU_INIT_ARGS"); fi
  # The script goes along as text: nothing needs to be on the hosts beforehand.
  script=$(grep -v '^#' "$LAUNCH/tpu_host.sh")
  on_all_hosts "$(quoted bash -c "$script" tpu_host.sh "$RUN" "${IMAGE%%/*}" "$BUCKET" "${flags[@]}" "$IMAGE" python \
    "${TRAIN[@]}")" || return 255
  # Only one connection stays open, and not through `queued-resources ssh`: that serves 64 hosts at a time, and exits with 0 where a
  # node cannot be reached. Without a container there is no exit code: as if the ssh had broken.
  run "${TPUS[@]}" tpu-vm ssh "$NODE_0" --worker=0 "$ALIVE" \
    "--command=sudo docker logs --follow --tail=200 $RUN || exit 255; code=\$(sudo docker wait $RUN); exit \$((code == 1 ? 3 : code))" \
    "${WHERE[@]}"
}

stop() { on_all_hosts "sudo docker stop -t 120 $RUN"; }

delete() { run "${TPUS[@]}" queued-resources delete "$RUN" --force "${WHERE[@]}"; }

"$VERB"

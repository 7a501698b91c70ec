#!/usr/bin/env bash
# GKE with JobSet and Kueue: gke.sh VERB [--env=FILE] [--dry-run]
#   queue   makes the Kueue queue for this TPU, with room for this run; once per cluster, by its administrator
#   apply   queues the run as a JobSet
#   state   shows the JobSet and its pods
#   logs    follows process 0
#   delete  ends the run: saved, where the grace period is enough; `apply` continues it
# With --dry-run, `apply` and `queue` print the manifest.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=launch/gke_jobset.sh
source "$LAUNCH/gke_jobset.sh"
# shellcheck source=launch/gke_queue.sh
source "$LAUNCH/gke_queue.sh"
read_words "queue apply state logs delete" "$@"
need_run
need_bucket
need CLAIM IMAGE KUBE_CONTEXT NAMESPACE SERVICE_ACCOUNT KUEUE_QUEUE TPU_ACCELERATOR TPU_TOPOLOGY
need_count SLICES CHIPS_PER_HOST
need_number MAX_RESTARTS
need_one_of CAPACITY spot reserved on-demand
[[ $TPU_TOPOLOGY =~ ^[0-9]+x[0-9]+(x[0-9]+)?$ ]] || fail "$ENV_FILE: TPU_TOPOLOGY='$TPU_TOPOLOGY': must be like 4x4 or 2x2x4"

CHIPS=$((${TPU_TOPOLOGY//x/ * }))
if ((CHIPS < CHIPS_PER_HOST)); then CHIPS_PER_HOST=$CHIPS; fi
((CHIPS % CHIPS_PER_HOST == 0)) || fail "$ENV_FILE: TPU_TOPOLOGY has $CHIPS chips, not a multiple of CHIPS_PER_HOST=$CHIPS_PER_HOST"
HOSTS=$((CHIPS / CHIPS_PER_HOST))

cluster() { run kubectl "--context=$KUBE_CONTEXT" "$@"; }

send() { # MANIFEST
  if [[ $DRY_RUN == yes ]]; then printf '# '; fi
  cluster apply --filename=- <<<"$1"
  if [[ $DRY_RUN == yes ]]; then echo "$1"; fi
}

case $VERB in
  queue) send "$(kueue)" ;;
  apply) send "$(jobset)" ;;
  state) cluster get jobset,pods "--namespace=$NAMESPACE" "--selector=rsfm-jax/run=$RUN" ;;
  logs) cluster logs "--namespace=$NAMESPACE" --follow --tail=200 \
    "--selector=rsfm-jax/run=$RUN,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0" ;;
  delete) cluster delete jobset "$RUN" "--namespace=$NAMESPACE" ;;
esac

#!/usr/bin/env bash
# Slurm: slurm.sh [--env=FILE] [--dry-run] submits the run; run it in the repository, on a file system that all nodes see.
# Five minutes before the time limit, and on scancel --signal=TERM, training saves and the job queues itself anew (slurm.sbatch).
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
read_words "" "$@"
need_run
need PYTHON TIME_LIMIT
need_count NODES GPUS_PER_NODE CPUS_PER_TASK
need_number MAX_REQUEUES

ROOT=$(dirname "$LAUNCH")
ENV_FILE=$(cd "$(dirname "$ENV_FILE")" && pwd)/$(basename "$ENV_FILE")
# One task per GPU, and each sees all GPUs of its node: JAX gives every task its own by its number on the node.
run sbatch "--job-name=$RUN" "--nodes=$NODES" "--ntasks-per-node=$GPUS_PER_NODE" "--gpus-per-node=$GPUS_PER_NODE" \
  "--cpus-per-task=$CPUS_PER_TASK"   "--time=$TIME_LIMIT" "--output=$RUN-%j.log" "--chdir=$ROOT" "${SBATCH_FLAGS[@]}" \
  "$LAUNCH/slurm.sbatch" "--env=$ENV_FILE"
if [[ $DRY_RUN == yes ]]; then "$LAUNCH/slurm.sbatch" --dry-run "--env=$ENV_FILE"; fi

#!/usr/bin/env bash
# On a TPU host, sent there by `tpu.sh train`: starts the container that trains, once. It outlives the ssh that started it.
#   tpu_host.sh RUN REGISTRY FOLDER [DOCKER_FLAG...] IMAGE COMMAND...
set -euo pipefail
run=$1 registry=$2 folder=$3
shift 3

# A second ssh, at the same time or later, never starts a second trainer.
exec 9>"/tmp/$run.lock"
flock 9
if [[ -n $(sudo docker ps --quiet --filter label=rsfm_jax) ]]; then
  echo "$(hostname): training runs here already"
  exit 0
fi
# On the boot disk it would be another folder on every host. 255: as if the ssh had broken, so it is tried again.
# Asked as root, whose container it is: a bucket mounted by root may be closed to others.
if ! sudo test -d "$folder" || [[ $(sudo stat --format=%d "$folder") == $(stat --format=%d /) ]]; then
  echo "$(hostname): $folder is not mounted (yet)"
  exit 255
fi
case $registry in
  gcr.io | *.gcr.io | *.pkg.dev) sudo gcloud auth configure-docker "$registry" --quiet ;;
esac
sudo docker rm --force "$run" >/dev/null 2>&1 || true
sudo docker run --detach --name="$run" --label=rsfm_jax --net=host --privileged --ulimit=memlock=-1 --stop-timeout=60 \
  --log-opt=max-size=100m "$@"

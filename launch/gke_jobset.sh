# shellcheck shell=bash
# The JobSet that `gke.sh apply` sends, with the values of the env file. Sourced by it.

# A string as YAML, whatever is in it.
yaml() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# Lines with an indent: prefixed to each word as an element of a list.
list() { # INDENT WORD...
  local indent=$1 word
  shift
  for word in "$@"; do printf '%s- %s\n' "$indent" "$(yaml "$word")"; done
}

# A part that is not always there; it begins with a line break.
spot() {
  [[ $CAPACITY == spot ]] || return 0
  cat <<EOF

                cloud.google.com/gke-spot: "true"
              tolerations:
                - key: cloud.google.com/gke-spot
                  operator: Exists
                  effect: NoSchedule
EOF
}

# Kueue holds the JobSet back until there is room. What happens to a pod that ends:
#   exit 2        bad input: the Job fails by its podFailurePolicy, and the JobSet with it, at once
#   anything else saved (42), disrupted, crashed: backoffLimit 0 fails the Job, and the JobSet starts all of them anew, MAX_RESTARTS times
# GKE sets TPU_WORKER_ID, TPU_WORKER_HOSTNAMES and, with several slices, MEGASCALE_* in pods that ask for google.com/tpu; --cluster reads
# them. The exclusive topology puts each slice on a node pool of its own.
jobset() {
  cat <<EOF
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $RUN
  namespace: $NAMESPACE
  labels:
    kueue.x-k8s.io/queue-name: $KUEUE_QUEUE
    rsfm-jax/run: $RUN
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    maxRestarts: $MAX_RESTARTS
    rules:
      - name: badInput
        action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: slice
      replicas: $SLICES
      template:
        spec:
          completionMode: Indexed
          parallelism: $HOSTS
          completions: $HOSTS
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes:
                  containerName: train
                  operator: In
                  values: [2]
          template:
            metadata:
              labels:
                rsfm-jax/run: $RUN
            spec:
              restartPolicy: Never
              serviceAccountName: $SERVICE_ACCOUNT
              hostNetwork: true
              dnsPolicy: ClusterFirstWithHostNet
              terminationGracePeriodSeconds: 300
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: $TPU_ACCELERATOR
                cloud.google.com/gke-tpu-topology: $TPU_TOPOLOGY$(spot)
              volumes:
                - name: bucket
                  persistentVolumeClaim:
                    claimName: $CLAIM
              containers:
                - name: train
                  image: $(yaml "$IMAGE")
                  command:
$(list "                    " python "${TRAIN[@]}")
                  env:
                    - name: XLA_FLAGS
                      value: $(yaml "$XLA_FLAGS")
                    - name: LIBTPU_INIT_ARGS
                      value: $(yaml "$LIBTPU_INIT_ARGS")
                  securityContext:
                    privileged: true
                  resources:
                    requests:
                      google.com/tpu: $CHIPS_PER_HOST
                    limits:
                      google.com/tpu: $CHIPS_PER_HOST
                  volumeMounts:
                    - name: bucket
                      mountPath: $(yaml "$BUCKET")
EOF
}

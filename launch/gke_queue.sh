# shellcheck shell=bash
# The Kueue objects that `gke.sh queue` sends, with the values of the env file: room for one run of this size. Sourced by it.

kueue() {
  local flavor=$TPU_ACCELERATOR-$TPU_TOPOLOGY
  cat <<EOF
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata:
  name: $flavor
spec:
  nodeLabels:
    cloud.google.com/gke-tpu-accelerator: $TPU_ACCELERATOR
    cloud.google.com/gke-tpu-topology: $TPU_TOPOLOGY
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata:
  name: $KUEUE_QUEUE
spec:
  namespaceSelector: {}
  resourceGroups:
    - coveredResources: [google.com/tpu]
      flavors:
        - name: $flavor
          resources:
            - name: google.com/tpu
              nominalQuota: $((SLICES * CHIPS))
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata:
  name: $KUEUE_QUEUE
  namespace: $NAMESPACE
spec:
  clusterQueue: $KUEUE_QUEUE
EOF
}

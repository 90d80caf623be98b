#!/usr/bin/env bash
# Trains on a Cloud TPU slice, from the request for it to its release, by queued resources.
#
#     launch/cluster/tpu_pod.sh create  NAME ZONE v5litepod-256 v2-alpha-tpuv5-lite
#     launch/cluster/tpu_pod.sh install NAME ZONE
#     launch/cluster/tpu_pod.sh train   NAME ZONE --config=configs/vljepa_1b.py:image \
#         --workdir=gs://BUCKET/image
#     launch/cluster/tpu_pod.sh delete  NAME ZONE
#
# Accelerator types and the runtime version of each: v5litepod-256 (v5e:16x16) v2-alpha-tpuv5-lite,
# v5p-128 (v5p:4x4x4; this name counts cores) v2-alpha-tpuv5, v6e-256 (v6e:16x16) v2-alpha-tpuv6e.
# It needs gcloud, logged in, with a project. The datasets must be where every host reads them: a
# bucket mounted at the same path by gcsfuse, or Filestore. The workdir may be a bucket itself. SPOT=1 asks for
# preemptible machines; after a preemption, create, install and train again: the run continues.
set -euo pipefail

usage() { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2; }
[[ $# -ge 3 ]] || usage
action=$1 name=$2 zone=$3
shift 3

# Copies this checkout, as committed, to every host.
install() {
    local archive
    archive=$(mktemp --suffix=.tar.gz)
    git archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$name:vljepa_jax.tar.gz" --zone="$zone" --worker=all
    rm "$archive"
    on_all 'mkdir -p vljepa_jax && tar xzf vljepa_jax.tar.gz -C vljepa_jax && cd vljepa_jax &&
        python3 -m venv .venv && .venv/bin/pip install --quiet -r requirements-tpu.txt'
}

on_all() { gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"; }

case $action in
create)
    [[ $# -eq 2 ]] || usage
    gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \
        --accelerator-type="$1" --runtime-version="$2" ${SPOT:+--spot}
    until state=$(gcloud compute tpus queued-resources describe "$name" --zone="$zone" \
        --format='value(state.state)') && [[ $state == ACTIVE ]]; do
        [[ $state != FAILED && $state != SUSPENDED ]] || { echo "request is $state" >&2; exit 1; }
        echo "$(date +%T) request is $state" >&2
        sleep 30
    done
    ;;
install) install ;;
train)
    [[ $# -ge 1 ]] || usage
    on_all "cd vljepa_jax && .venv/bin/python launch/train.py $(printf '%q ' "$@")"
    ;;
delete)
    gcloud compute tpus queued-resources delete "$name" --zone="$zone" --force --quiet
    ;;
*) usage ;;
esac

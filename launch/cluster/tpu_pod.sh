#!/usr/bin/env bash
# Trains on a Cloud TPU slice, from the request for it to its release, by queued resources.
#
#     launch/cluster/tpu_pod.sh create  NAME ZONE v5litepod-256 v2-alpha-tpuv5-lite
#     launch/cluster/tpu_pod.sh install NAME ZONE
#     launch/cluster/tpu_pod.sh train   NAME ZONE --config=configs/vljepa_1b.py:image \
#         --workdir=gs://BUCKET/runs/image
#     launch/cluster/tpu_pod.sh log     NAME ZONE
#     launch/cluster/tpu_pod.sh stop    NAME ZONE
#     launch/cluster/tpu_pod.sh delete  NAME ZONE
#
# Accelerator types and the runtime version of each: v5litepod-256 (v5e:16x16) v2-alpha-tpuv5-lite,
# v5p-128 (v5p:4x4x4; this name counts cores) v2-alpha-tpuv5, v6e-256 (v6e:16x16) v2-alpha-tpuv6e.
# TPU7x, and several slices, are had through GKE: jobset_tpu.yaml. It needs gcloud, logged in, with
# a project, and an ssh-agent that holds the key (ssh-add ~/.ssh/google_compute_engine).
#
# A run goes on when the connection ends, Ctrl-C during train or log included; stop has it save
# first. SPOT=1 asks for preemptible machines: a preempted request stays, SUSPENDED, so delete,
# create, install and train again: the run continues. The workdir and the datasets must be where
# every host reads and writes them: a bucket, or a disk that all share; see docs/clusters.md.
set -euo pipefail

usage() { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2; }
[[ $# -ge 3 ]] || usage
action=$1 name=$2 zone=$3
shift 3

# Runs a command on some of the hosts: all, or the number of one.
on() { gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker="$1" --command="$2"; }

# Copies this checkout, as committed, to every host. Their images have Python 3.10, and so Python
# comes with uv.
install() {
    local archive
    archive=$(mktemp --suffix=.tar.gz)
    git archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$name:vljepa_jax.tar.gz" --zone="$zone" --worker=all
    rm "$archive"
    on all 'set -e
        mkdir -p vljepa_jax && tar xzf vljepa_jax.tar.gz -C vljepa_jax && cd vljepa_jax
        curl -LsSf https://astral.sh/uv/install.sh | sh
        ~/.local/bin/uv venv --quiet --clear --python 3.12 .venv
        ~/.local/bin/uv pip install --quiet --python .venv/bin/python -r requirements-tpu.txt'
}

# Starts the run on every host, away from the connection's terminal and session.
train() {
    on all "cd vljepa_jax
        if [ -e train.pid ] && kill -0 \$(cat train.pid) 2> /dev/null; then
            echo 'a run is going on: look at its log, or stop it' >&2
            exit 1
        fi
        nohup setsid .venv/bin/python launch/train.py $(printf '%q ' "$@") \
            > train.log 2>&1 < /dev/null &
        echo \$! > train.pid"
}

# Shows what the first host says, from the beginning, until the run ends.
follow() { on 0 "cd vljepa_jax && tail --pid=\$(cat train.pid) -n +1 -F train.log"; }

case $action in
create)
    [[ $# -eq 2 ]] || usage
    gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \
        --accelerator-type="$1" --runtime-version="$2" ${SPOT:+--spot}
    until state=$(gcloud compute tpus queued-resources describe "$name" --zone="$zone" \
        --format='value(state.state)') && [[ $state == ACTIVE ]]; do
        if [[ $state == FAILED || $state == SUSPENDED ]]; then
            echo "request is $state: delete it, and create it again" >&2
            exit 1
        fi
        echo "$(date +%T) request is $state" >&2
        sleep 30
    done
    ;;
install) install ;;
train)
    [[ $# -ge 1 ]] || usage
    train "$@"
    follow
    ;;
log) follow ;;
stop) on all "cd vljepa_jax && pid=\$(cat train.pid) && kill \$pid && tail --pid=\$pid -f /dev/null" ;;
delete) gcloud compute tpus queued-resources delete "$name" --zone="$zone" --force --quiet ;;
*) usage ;;
esac

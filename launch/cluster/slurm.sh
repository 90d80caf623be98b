#!/usr/bin/env bash
# Trains on SLURM nodes of eight H100 or H200, one process a GPU.
#
#     sbatch --nodes=4 launch/cluster/slurm.sh --config=configs/vljepa_1b.py:image \
#         --workdir=/shared/runs/image --config.sharding.data=-1 --config.sharding.fsdp=8
#
# Submit from the checkout, on a disk that all nodes share, with .venv made there:
# python3 -m venv .venv && .venv/bin/pip install -r requirements.txt "jax[cuda13]". Set the account
# and the partition of your cluster by sbatch's flags. Two minutes before the time limit SLURM sends
# SIGTERM to every process: the run saves and ends, and this job asks to be queued again until the
# run is complete.
#SBATCH --job-name=vljepa
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -uo pipefail

# One process a GPU: JAX takes the one of the process's number on its node, and must see them all.
srun --kill-on-bad-exit=1 .venv/bin/python launch/train.py "$@"
status=$?
# train.py ends with 128 + SIGTERM when a signal stopped it before its last step.
if [[ $status -eq 143 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status

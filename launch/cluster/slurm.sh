#!/usr/bin/env bash
# Trains on SLURM nodes of eight H100 or H200, one process a GPU.
#
#     sbatch --nodes=4 launch/cluster/slurm.sh --config=configs/vljepa_1b.py:image \
#         --workdir=/shared/runs/image --config.sharding.data=-1 --config.sharding.fsdp=8
#
# Submit from the checkout, on a disk that all nodes share, with JAX for CUDA installed there:
#
#     python3.12 -m venv .venv
#     .venv/bin/pip install -c locks/cuda.txt -e . "jax[cuda13]"
#
# Or in a container, with the image of the Dockerfile's stage "cuda" and what it is to see:
#
#     IMAGE=/shared/vljepa_jax.sqsh MOUNTS=/shared:/shared sbatch --nodes=4 launch/cluster/slurm.sh ...
#
# IMAGE is a squashfs file or REGISTRY#NAME:TAG for pyxis and enroot, FILE.sif for Apptainer; the
# recipe is then one of the image's. Set the account and the partition of your cluster by sbatch's
# flags. Two minutes before the time limit SLURM sends SIGTERM to every process: the run saves and
# ends, and this job asks to be queued again until the run is complete.
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

# What is set already stays. Of two equal flags in XLA_FLAGS the later one counts.
export XLA_FLAGS="--xla_gpu_enable_latency_hiding_scheduler=true ${XLA_FLAGS:-}"
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}" # NCCL's is beside it
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"

# srun has not taken --cpus-per-task from sbatch since SLURM 22.05: each process, with all that it
# starts to decode, would have one core.
step=(srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK")
mounts=${MOUNTS:-}
# One process a GPU: JAX takes the one of the process's number on its node, and must see them all.
case ${IMAGE:-} in
'') step+=(.venv/bin/python) ;;
*.sif) step+=(apptainer exec --nv ${mounts:+--bind "$mounts"} --pwd /vljepa_jax "$IMAGE" python) ;;
*)
    step+=(--container-image="$IMAGE" ${mounts:+--container-mounts="$mounts"})
    step+=(--container-workdir=/vljepa_jax python)
    ;;
esac
"${step[@]}" launch/train.py "$@"
status=$?
# train.py ends with 128 + SIGTERM when a signal stopped it before its last step.
if [[ $status -eq 143 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status

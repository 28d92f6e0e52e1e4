#!/usr/bin/env bash
# A run on the GPU nodes of a Slurm cluster, one process for each GPU: JAX finds the others by itself.
#
#   sbatch --nodes 4 --gpus-per-node 8 --ntasks-per-node 8 launch/slurm.sh train bart_base --workdir /shared/run
#
# Slurm sends SIGTERM two minutes before the time limit: the run saves a checkpoint and ends, and the job queues
# itself again until the run has done all its steps.
#SBATCH --job-name=denoise-jax
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=denoise-jax-%j.log
set -euo pipefail

if [[ $# -eq 0 ]]; then
  echo "give a command of denoise-jax, such as: train bart_base --workdir /shared/run" >&2
  exit 2
fi

status=0
srun --kill-on-bad-exit=1 denoise-jax "$@" || status=$?
case $status in
  1 | 2) exit "$status" ;; # the run failed, or a mistake: not worth a retry
  0) # ended, or stopped by the signal with steps left
    for ((i = 1; i < $#; i++)); do
      next=$((i + 1))
      if [[ ${!i} == --workdir ]] && ! denoise-jax runs "${!next}" --json | grep -q '"state": "finished"'; then
        scontrol requeue "$SLURM_JOB_ID"
      fi
    done
    ;;
  *) scontrol requeue "$SLURM_JOB_ID" ;; # a process was lost
esac

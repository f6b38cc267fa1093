#!/usr/bin/env bash
# A Ray cluster over the nodes of a Slurm allocation, one job on it, and everything gone afterwards.
#   sbatch docs/deploy/slurm.sh offline track=qwen3vl_8b name=first steps=1000 corpus=/shared/corpus policy=/shared/runs/sft/policy reward.prior=/shared/ddpm-celebahq-256
# Run it from the project's folder, on a disk that all nodes share, after `make setup EXTRA=cuda`.
#SBATCH --job-name=duvlm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --signal=B:TERM@120
set -euo pipefail
source .venv/bin/activate

port=${RAY_PORT:-6379}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')

# One token for this allocation alone, in a file that only its owner reads.
umask 077
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$PWD/runs/slurm-$SLURM_JOB_ID.token"
mkdir -p runs
python -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"; kill $(jobs -p) 2>/dev/null || true' EXIT

srun --overlap --nodes=1 --ntasks=1 -w "$head" \
    ray start --head --block --node-ip-address "$address" --port "$port" --dashboard-host 127.0.0.1 \
    --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$SLURM_GPUS_PER_NODE" --disable-usage-stats &
ray_head=$! ends=$((SECONDS + 180))
until (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; do
    if ! kill -0 "$ray_head" 2>/dev/null || [ "$SECONDS" -ge "$ends" ]; then
        echo "slurm.sh: no Ray head answers at $address:$port on $head; what \`ray start\` said is above" >&2
        exit 1
    fi
    sleep 2
done
others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then
    srun --overlap --nodes="$others" --ntasks="$others" --exclude "$head" \
        ray start --block --address "$address:$port" \
        --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$SLURM_GPUS_PER_NODE" --disable-usage-stats &
fi

# It waits a minute for the other nodes. In the background, so that bash hears Slurm's SIGTERM at once; the job clears away what it made and ends with 143.
duvlm run "$@" --address "$address:$port" &
job=$!
trap 'kill -TERM $job' TERM
wait $job || wait $job # the first is cut short by SIGTERM; then the job clears away

#!/usr/bin/env bash
# The main job on the embedded policy and corpus: measure the base, fine-tune it, measure again, compare.
# bash tools/quickstart.sh [run directory, default runs/quickstart]
set -euo pipefail
. "$(dirname "$0")/environment.sh"

runs=${1:-runs/quickstart}
if [ -e "$runs" ]; then
    kept=$runs-$(date +%Y%m%d-%H%M%S)
    mv "$runs" "$kept"
    echo "An earlier quick start is now in $kept"
fi

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

run lemma validate --config configs/quickstart/sft.yaml --trainer.default_root_dir "$runs/base"
run lemma fit --config configs/quickstart/sft.yaml --trainer.default_root_dir "$runs/sft"
run lemma validate --config configs/quickstart/sft.yaml --trainer.default_root_dir "$runs/sft" \
    --model.policy.adapter "$runs/sft/adapter"
run python tools/compare_runs.py "$runs/base" "$runs/sft" --output "$runs/comparison"

echo
echo "Adapter:     $runs/sft/adapter"
echo "TensorBoard: tensorboard --logdir $runs"

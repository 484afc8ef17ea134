#!/usr/bin/env bash
# The main job on the embedded policy and corpus: measure the base, fine-tune it, measure again, compare; then, if
# asked, optimise the preference between right and wrong solutions sampled from that (dpo), the same with coherent over
# less coherent ones among the right (coherence), or reinforce right ones (grpo), measure and compare once more.
# bash tools/quickstart.sh [--stages sft|sft,dpo|sft,coherence|sft,grpo] [--seed N] [directory, default runs/quickstart]
set -euo pipefail

stages=sft seed=0 runs=runs/quickstart
while [ $# -gt 0 ]; do
    case $1 in
    --stages) stages=${2:-} && shift ;;
    --seed) seed=${2:-} && shift ;;
    -*) echo "quickstart: unknown option $1; there are --stages and --seed" >&2 && exit 2 ;;
    *) runs=$1 ;;
    esac
    shift
done
case $stages in
sft | sft,dpo | sft,coherence | sft,grpo) ;;
*) echo "quickstart: --stages: expected sft, sft,dpo, sft,coherence or sft,grpo, but got '$stages'" >&2 && exit 2 ;;
esac
. "$(dirname "$0")/environment.sh"

if [ -e "$runs" ]; then
    kept=$runs-$(date +%Y%m%d-%H%M%S)
    mv "$runs" "$kept"
    echo "An earlier quick start is now in $kept"
fi

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# lemma_run VERB CONFIG RUN [flags]
lemma_run() {
    run lemma "$1" --config "configs/quickstart/$2.yaml" --seed_everything "$seed" --trainer.default_root_dir "$runs/$3" "${@:4}"
}

lemma_run validate sft base
lemma_run fit sft sft
lemma_run validate sft sft --model.policy.adapter "$runs/sft/adapter"
run python tools/compare_runs.py "$runs/base" "$runs/sft" --output "$runs/comparison"

last=${stages##*,}
case $last in
dpo)
    lemma_run validate pairs pairs --model.policy.adapter "$runs/sft/adapter"
    lemma_run fit dpo dpo --model.policy.adapter "$runs/sft/adapter" --data.root "$runs/pairs/validate"
    ;;
coherence)
    drawn=$runs/trajectories/predict
    lemma_run predict trajectories trajectories --model.policy.adapter "$runs/sft/adapter"
    run python tools/build_preferences.py --trajectories "$drawn/trajectories.jsonl" --output "$drawn/pairs.jsonl" \
        --pairs.pairs_per_problem 2
    lemma_run fit coherence coherence --model.policy.adapter "$runs/sft/adapter" --data.root "$drawn"
    ;;
grpo) lemma_run fit grpo grpo --model.policy.adapter "$runs/sft/adapter" ;;
esac
if [ "$last" != sft ]; then
    lemma_run validate sft "$last" --model.policy.adapter "$runs/$last/adapter"
    run python tools/compare_runs.py "$runs/sft" "$runs/$last" --output "$runs/comparison-$last"
fi

echo
echo "Adapter:     $runs/$last/adapter"
echo "TensorBoard: tensorboard --logdir $runs"

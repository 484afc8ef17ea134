"""What tools/build_preferences.py writes is trained on, with the run's own prompt, and reported by kind of pairs."""

import json

from lemma.rollouts.preferences import PairingArgs, build_preferences


def trajectory_row(number: int) -> dict:
    total = 2 * number + 5
    texts = [
        f"{number} + {number + 5} = {total}. The answer is {total}.",
        f"So it is {total}.",
        f"{total + 1}, I think.",
    ]
    verdicts = ["correct", "correct", "wrong"]
    scores = [{"s_end": 0.5, "s_path": path, "s_cf": None, "s_wm": (0.5 + path) / 2} for path in (1.0, 0.5, 0.0)]
    return {
        "problem_id": f"train/{number}", "source": "toy", "level": 1, "subject": None,
        "problem": f"Ann has {number} pens and buys {number + 5}. How many are there?", "answer": str(total),
        "samples": [0, 1, 2], "completions": texts, "predictions": [None] * 3, "strategies": [None] * 3,
        "verdicts": verdicts, "flexible_verdicts": verdicts, "votes": [0, 0, 1], "stopped": [True] * 3,
        "tokens_in": None, "tokens_out": [20, 10, 9], "seconds": None, "arms": ["plan", "direct", "direct"],
        "scores": scores, "rewards": [1.4, 1.3, 0.1],
    }  # fmt: skip


def test_built_pairs_are_trained_on_and_reported_by_kind(dpo, figures, tmp_path, caplog):
    path, output = tmp_path / "trajectories.jsonl", tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(trajectory_row(number)) + "\n" for number in range(8)))
    build_preferences([path], output, PairingArgs(pairs_per_problem=2))
    corpora = json.dumps([{"name": "preferences", "path": str(output), "source": "built"}])
    prompt = ("--data.prompt.template", "step_by_step")
    run = dpo("fit", "run", "--data.corpora", corpora, "--data.held_out", "[]", *prompt, "--trainer.max_steps", "2")
    last = figures(run)[-1]
    assert last["step"] == 2
    for kind in ("correctness", "coherence"):
        assert last[f"train/built/{kind}/length/chosen"] > last[f"train/built/{kind}/length/rejected"]
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert "think step by step. Put your final answer" in caplog.text

"""The real command line on every shipped configuration, and on what users get wrong."""

import json
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from lemma.assets import resolve_base
from lemma.callbacks import AtomicCheckpointIO
from lemma.cli import main

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))
NEEDS_NO_DATA = {"configs/base.yaml", "configs/objective/sft.yaml", "configs/policy/tiny.yaml",
                 "configs/corpora/arithmetic.yaml", "configs/hardware/cpu.yaml", "configs/hardware/ddp.yaml",
                 "configs/quickstart/sft.yaml"}  # fmt: skip
QUICK = "configs/quickstart/sft.yaml"
SMALL = [
    *("--data.corpora", '[{"name": "arithmetic", "max_rows": 40}]'),
    *("--data.benchmarks", '[{"name": "arithmetic", "split": "test", "max_rows": 7}]'),
    *("--model.evaluation.sampling.num_samples", "4", "--model.evaluation.sampling.max_new_tokens", "32"),
    *("--trainer.enable_progress_bar", "false"),
]


def command_of(path: Path) -> list[str]:
    """Return the arguments of the command that a configuration's first line gives."""
    first = path.read_text().split("\n")[0]
    assert first.startswith("# lemma "), f"{path}: the first line must be the command that runs it"
    return shlex.split(first.removeprefix("# lemma ").replace("DIR", "."))


def test_configs_were_found():
    assert len(CONFIGS) == 72
    assert {str(path.relative_to(ROOT)) for path in CONFIGS} > NEEDS_NO_DATA


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_composes_and_parses_with_the_command_on_its_first_line(path, lemma, capsys):
    command = command_of(path)
    assert str(path.relative_to(ROOT)) in command
    with pytest.raises(SystemExit) as exit_info:
        lemma(*command, "--print_config")
    assert exit_info.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["data"]["benchmarks"], "a composed run has something to measure"
    assert config["data"]["corpora"] or command[0] == "validate", "and to train on"


@pytest.mark.parametrize(
    "path", [p for p in CONFIGS if str(p.relative_to(ROOT)) in NEEDS_NO_DATA], ids=lambda p: p.stem
)
def test_every_config_that_needs_no_data_runs(path, lemma, tmp_path):
    flags = ["--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(tmp_path)]
    arguments = [*command_of(path), *flags, *SMALL]
    if path.stem == "ddp":  # two processes, and a process group that must not stay in this one
        command = [sys.executable, "-m", "lemma", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        assert "Starting with 2 processes" in done.stderr
    else:
        lemma(*arguments)


def test_a_printed_plan_reads_data_and_loads_no_weights(lemma, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("lemma.policy.load.load_base", None)
    with pytest.raises(SystemExit) as exit_info:
        lemma("fit", "--config", QUICK, *SMALL, "--print_plan", "--trainer.default_root_dir", str(tmp_path))
    assert not exit_info.value.code
    printed = capsys.readouterr().out
    for part in ("An optimiser step sees 32 examples", "The run: 150 optimiser steps", "are trained", "activations"):
        assert part in printed
    assert list(tmp_path.iterdir()) == []


def test_a_printed_plan_of_rollouts_says_their_algebra_and_what_sampling_holds(lemma, capsys):
    with pytest.raises(SystemExit) as exit_info:
        lemma("fit", "--config", "configs/quickstart/grpo.yaml", *SMALL, "--print_plan",
              "--model.problems_per_rollout", "16", "--data.batch_size", "64",
              "--trainer.accumulate_grad_batches", "2", "--trainer.max_steps", "60")  # fmt: skip
    assert not exit_info.value.code
    printed = capsys.readouterr().out
    for part in ("16 problems x 8 completions = 128 a rollout", "An epoch is 40 problems in 2 rollouts, 2 steps.",
                 "The run: 60 optimiser steps.", "while sampling", "keys and values", "merged copy"):  # fmt: skip
        assert part in printed


def test_two_corpora_configs_append(lemma, capsys):
    base = ["--config", "configs/base.yaml", "--config", "configs/objective/sft.yaml"]
    corpora = ["--config", "configs/corpora/arithmetic.yaml", "--config", "configs/corpora/gsm8k.yaml"]
    with pytest.raises(SystemExit):
        lemma("fit", *base, *corpora, "--print_config")
    config = yaml.safe_load(capsys.readouterr().out)
    assert [corpus["name"] for corpus in config["data"]["corpora"]] == ["arithmetic", "gsm8k"]
    assert [corpus["name"] for corpus in config["data"]["benchmarks"]] == ["arithmetic", "gsm8k"]


def test_a_corpus_that_replaces_another_inherits_nothing_from_it(lemma, tmp_path, capsys):
    (tmp_path / "other.yaml").write_text("data: {corpora: [{name: gsm8k}]}")
    with pytest.raises(SystemExit):
        lemma("fit", "--config", QUICK, "--config", str(tmp_path / "other.yaml"), "--print_config")
    assert yaml.safe_load(capsys.readouterr().out)["data"]["corpora"] == [{"name": "gsm8k"}]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of the quick start's configuration, cut to four steps."""
    run = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        arguments = ["fit", "--config", QUICK, *SMALL, "--trainer.max_steps", "4", "--trainer.val_check_interval", "2"]
        arguments += ["--data.batch_size", "4", "--trainer.default_root_dir", str(run)]
        patch.setattr(sys, "argv", ["lemma", *arguments])
        main()
    return run


def test_a_run_directory_holds_config_versions_commit_and_data_hashes(trained):
    assert yaml.safe_load((trained / "config.yaml").read_text())["trainer"]["max_steps"] == 4
    facts = json.loads((trained / "run.json").read_text())
    assert set(facts["data"]) == {"train/0/arithmetic", "benchmark/0/arithmetic"}
    assert all(len(sha256) == 64 for sha256 in facts["data"].values())
    assert facts["packages"]["torch"]
    inside_git = (ROOT / ".git").exists()
    assert (facts["git"] is not None and len(facts["git"]) == 40) == inside_git
    assert {path.name for path in (trained / "checkpoints").iterdir()} >= {"last.ckpt"}
    assert len(list((trained / "checkpoints").glob("step-*.ckpt"))) == 1, "the best by val/arithmetic/pass@1"


def test_each_figure_of_a_validation_is_at_one_step(trained):
    events = EventAccumulator(str(trained)).Reload()
    assert {event.step for event in events.Scalars("val/arithmetic/pass@1")} == {1, 3}, "Lightning counts from 0"


def test_the_exported_adapter_loads_in_peft_with_its_tokenizer(trained):
    base = AutoModelForCausalLM.from_pretrained(resolve_base("tiny"))
    model = PeftModel.from_pretrained(base, trained / "adapter")
    assert any(parameter.abs().sum() > 0 for name, parameter in model.named_parameters() if "lora_B" in name)
    assert AutoTokenizer.from_pretrained(trained / "adapter").chat_template


def test_validate_from_adapter_and_from_checkpoint_agree(trained, lemma, tmp_path):
    for name, source in (
        ("adapter", ["--model.policy.adapter", str(trained / "adapter")]),
        ("checkpoint", ["--ckpt_path", str(trained / "checkpoints" / "last.ckpt")]),
    ):
        lemma("validate", "--config", QUICK, *SMALL, *source, "--trainer.default_root_dir", str(tmp_path / name))
    results = [
        json.loads((tmp_path / name / "validate" / "results.json").read_text()) for name in ("adapter", "checkpoint")
    ]
    assert results[0]["benchmarks"]["arithmetic"]["metrics"] == results[1]["benchmarks"]["arithmetic"]["metrics"]
    assert results[0]["benchmarks"]["arithmetic"]["num_problems"] == 7
    for key in ("sampling", "prompt", "template_hash", "seconds", "held_out_loss"):
        assert results[0][key] is not None, key
    records = (tmp_path / "adapter" / "validate" / "records.jsonl").read_text().splitlines()
    assert len(records) == 7
    assert all(len(json.loads(record)["completions"]) == 5 for record in records)


def test_validating_twice_keeps_the_first_results(trained, lemma, tmp_path):
    for _ in range(2):
        lemma("validate", "--config", QUICK, *SMALL, "--trainer.default_root_dir", str(tmp_path))
    assert (tmp_path / "validate" / "results.json").exists()
    assert (tmp_path / "validate" / "results-1.json").exists()


def bad_rows(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    columns = {"problem": "question", "answer": "answer", "solution": "solution"}
    return json.dumps([{"name": "mapped", "source": "mine", "path": str(path), "columns": columns}])


GOOD = '{"question": "1 + 1?", "answer": "2", "solution": "1 + 1 = 2"}'
TEST_PROBLEM = '{"question": "What is 3 + 4?", "answer": "7", "solution": "3 + 4 = 7"}'


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([GOOD, '{"question": "1 + '], ["rows.jsonl:2", "JSON"]),
        ([GOOD, '{"problem": "1 + 2?", "answer": "3", "solution": "3"}'], ["rows.jsonl:2", "question"]),
        ([GOOD, '{"question": "1 + 2?", "answer": "", "solution": "3"}'], ["rows.jsonl:2", "answer"]),
        ([""], ["rows.jsonl", "empty"]),
    ],
    ids=["malformed row", "missing column", "empty answer", "empty file"],
)
def test_a_bad_row_is_named_by_file_line_and_key(lemma, tmp_path, lines, parts):
    with pytest.raises(SystemExit) as exit_info:
        lemma("fit", "--config", QUICK, "--data.corpora", bad_rows(tmp_path, *lines), "--trainer.fast_dev_run", "1")
    message = str(exit_info.value.code)
    assert message.startswith("lemma: error: ")
    for part in parts:
        assert part in message


def test_a_benchmark_problem_in_training_is_refused_or_dropped_as_asked(lemma, tmp_path, caplog):
    both = bad_rows(tmp_path, GOOD, TEST_PROBLEM)
    (tmp_path / "bench").mkdir()
    bench = bad_rows(tmp_path / "bench", TEST_PROBLEM.replace("What is", "  what   IS"))
    flags = ["--data.corpora", both, "--data.benchmarks", bench, "--data.held_out_share", "0", "--data.batch_size", "1"]
    flags += ["--trainer.fast_dev_run", "1", "--trainer.enable_progress_bar", "false"]
    with pytest.raises(SystemExit, match=r"1 of the 1 problems of .*, which this run is measured on"):
        lemma("fit", "--config", QUICK, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.prompt.template", "basik"], "basik"),
        (["--data.corpora", '[{"name": "gsm8kk"}]'], "gsm8kk"),
        (["--data.corpora", '[{"name": "gsm8k", "pth": "x"}]'], "pth"),
        (["--model.policy.lora.r", "0"], "lora.r"),
        (["--model.optimizer.schedule", "cosin"], "cosin"),
        (["--model.evaluation.ks", "[1, 99]"], "99"),
        (["--model.policy.adapter", "nowhere"], "nowhere"),
        (["--trainer.max_stepz", "3"], "max_stepz"),
        (["--trainer.max_step", "3"], "unrecognized arguments: --trainer.max_step"),  # no key is completed
        (
            ["--trainer.accelerator", "gpu"],
            "trainer: No supported gpu backend found! Without a GPU, add --trainer.accelerator cpu",
        ),
        (["--data.corpora", '[{"name": "gsm8k", "path": "nowhere.jsonl"}]'], "nowhere.jsonl"),
        (["--ckpt_path", "nowhere.ckpt", "--trainer.default_root_dir", "/tmp/lemma-nothing"], "nowhere.ckpt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_typo_ends_with_one_message_that_names_it(lemma, capsys, flags, message):
    with pytest.raises(SystemExit) as exit_info:
        lemma("fit", "--config", QUICK, "--trainer.fast_dev_run", "1", *flags)
    assert exit_info.value.code != 0
    shown = str(exit_info.value.code) + capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.evaluation.sampling.max_new_tokens", "2040"], r"test/\S+: a prompt of \d+ tokens and 2040 new ones"),
        (["--data.max_completion_length", "9000"], r"mine, problem \S+: \d{4} tokens do not fit .* context of 2048"),
    ],
    ids=["generation", "training"],
)
def test_what_outgrows_the_context_is_refused_before_it_is_computed(lemma, tmp_path, flags, message):
    long_row = GOOD.replace("1 + 1 = 2", "1 + 1 = 2, " * 400)
    with pytest.raises(SystemExit, match=message):
        lemma("fit", "--config", QUICK, *SMALL, "--trainer.fast_dev_run", "1", "--data.held_out_share", "0",
              "--data.corpora", bad_rows(tmp_path, *[long_row] * (flags[0] == "--data.max_completion_length"), GOOD),
              *flags)  # fmt: skip


def test_an_adapter_of_another_base_is_refused(trained, lemma, tmp_path):
    base = tmp_path / "wider"
    config = AutoModelForCausalLM.from_pretrained(resolve_base("tiny")).config
    config.intermediate_size += 8
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    AutoTokenizer.from_pretrained(resolve_base("tiny")).save_pretrained(base)
    with pytest.raises(SystemExit, match=r"adapter_model.safetensors: the adapter does not fit the base .*wider"):
        lemma("fit", "--config", QUICK, *SMALL, "--trainer.fast_dev_run", "1", "--model.policy.base", str(base),
              "--model.policy.adapter", str(trained / "adapter"))  # fmt: skip


def test_a_new_fit_into_another_runs_folder_is_refused(trained, lemma):
    with pytest.raises(SystemExit, match="holds the checkpoints of another run"):
        lemma("fit", "--config", QUICK, *SMALL, "--trainer.default_root_dir", str(trained))


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil-code-ran"),))


def test_a_damaged_checkpoint_is_refused_and_no_code_in_it_runs(trained, lemma, tmp_path):
    whole = (trained / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"state_dict": {}, "evil": Evil()}, tmp_path / "evil.ckpt")
    for name in ("cut.ckpt", "evil.ckpt"):
        with pytest.raises(SystemExit, match=f"{name} cannot be read as a checkpoint"):
            lemma("fit", "--config", QUICK, *SMALL, "--ckpt_path", str(tmp_path / name),
                  "--trainer.default_root_dir", str(tmp_path / "run"))  # fmt: skip
    assert not (ROOT / "evil-code-ran").exists()


def test_a_full_disk_at_a_checkpoint_is_named_and_the_last_one_stays_whole(lemma, tmp_path, monkeypatch):
    save, saved = AtomicCheckpointIO.save_checkpoint, []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_twice_then_fill_the_disk(self, checkpoint, path, storage_options=None):
        if len(saved) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        save(self, checkpoint, path, storage_options)
        saved.append(path)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save_twice_then_fill_the_disk)
    flags = ["--last_checkpoint.every_n_steps", "1", "--trainer.max_steps", "5", "--trainer.limit_val_batches", "0"]
    try:
        with pytest.raises(SystemExit, match=r"last.ckpt: could not be written .*Every file written before is intact"):
            lemma("fit", "--config", QUICK, *SMALL, *flags, "--data.batch_size", "4",
                  "--trainer.default_root_dir", str(tmp_path))  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]

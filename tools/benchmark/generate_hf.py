"""The side of transformers in ``generate``: python -m benchmark.generate_hf JOB RUN_FOLDER"""

from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from benchmark.generate_side import Ids, Job


def main() -> None:
    """Draw all rows in one batch by a model with the adapter merged in, in bfloat16 where that is the precision."""
    job = Job.read()
    base = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, job.adapter).merge_and_unload().to(job.device).eval()

    def draw(prompts: list[Ids], **options: Any) -> list[list[Ids]]:
        width = max(map(len, prompts))
        input_ids = torch.tensor([[job.pad_id] * (width - len(ids)) + ids for ids in prompts])  # (P, width)
        attention_mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
        with torch.inference_mode():
            rows = model.generate(
                input_ids=input_ids.to(job.device),
                attention_mask=attention_mask.to(job.device),
                max_new_tokens=job.new_tokens,
                eos_token_id=job.stop_ids,
                pad_token_id=job.pad_id,
                **options,
            )  # (P * G, width + new_tokens)
        return rows[:, width:].view(len(prompts), -1, job.new_tokens).tolist()

    def sample(prompts: list[Ids], step: int) -> list[list[Ids]]:
        torch.manual_seed(job.seed + step)
        return draw(prompts, do_sample=True, top_k=0, num_return_sequences=job.group_size)

    greedy = [group[0] for group in draw(job.prompts[0], do_sample=False)]
    if job.precision == "bf16-mixed":
        model.to(torch.bfloat16)
    job.measure(sample, greedy)


if __name__ == "__main__":
    main()

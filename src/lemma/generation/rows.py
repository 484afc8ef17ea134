"""The rows of a batch that is being decoded: what each has drawn, how long it is, whether it goes on."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lemma.generation.draw import Drawing, Sample, draw, stream_uniforms


@dataclass
class Rows:
    """B completions under way. Tables have a column more than completions are long, where idle rows may write."""

    places: list[tuple[int, int]]
    """Prompt and completion that each row is."""
    position: Tensor
    """(B,) long, of the token drawn last."""
    columns: Tensor
    """(B,) long, how many of the cache's columns are the row's, up to its last."""
    uniforms: Tensor
    """(B, max_new_tokens + 1) float64, the row's random stream."""
    ids: Tensor
    """(B, max_new_tokens + 1) long, the tokens drawn."""
    logps: Tensor
    """(B, max_new_tokens + 1) float32, their log-probabilities."""
    count: Tensor
    """(B,) long, how many have been drawn."""
    live: Tensor
    """(B,) bool, whether a row goes on."""

    @classmethod
    def of(
        cls,
        places: list[tuple[int, int]],
        lengths: list[int],
        seeds: list[int | None],
        size: int,
        device: torch.device,
    ) -> "Rows":
        """Return rows that have drawn nothing yet.

        Args:
            places: Prompt and completion of each.
            lengths: Of their prompts, in tokens.
            seeds: Of their streams; None for a greedy row.
            size: Tokens of the longest completion.
            device: Where they are decoded.
        """
        num_rows = len(places)
        uniforms = torch.zeros(num_rows, size + 1, dtype=torch.float64)
        if num_rows:
            uniforms[:, :size] = stream_uniforms(seeds, size)
        return cls(
            places,
            position=torch.tensor(lengths, dtype=torch.long, device=device),
            columns=torch.tensor(lengths, dtype=torch.long, device=device),
            uniforms=uniforms.to(device),
            ids=torch.zeros(num_rows, size + 1, dtype=torch.long, device=device),
            logps=torch.zeros(num_rows, size + 1, dtype=torch.float32, device=device),  # whatever the default is
            count=torch.zeros(num_rows, dtype=torch.long, device=device),
            live=torch.ones(num_rows, dtype=torch.bool, device=device),
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.places)

    def last_ids(self) -> Tensor:
        """Return the (B, 1) tokens drawn last."""
        return self.ids.gather(1, self.count[:, None] - 1)

    def add(self, logits: Tensor, drawing: Drawing, stop_ids: Tensor) -> None:
        """Draw a token in each row; those that have finished stay as they are.

        Args:
            logits: (B, V).
            drawing: How.
            stop_ids: (S,) long, the tokens that end a row.
        """
        column = self.count[:, None]
        tokens, logps = draw(
            logits,
            self.uniforms.gather(1, column).squeeze(1),
            temperature=drawing.temperature,
            top_p=drawing.top_p,
        )
        self.ids.scatter_(1, column, tokens[:, None])
        self.logps.scatter_(1, column, logps[:, None])
        self.count += self.live
        self.live &= ~torch.isin(tokens, stop_ids) & (self.count < drawing.max_new_tokens)

    def collect(self, samples: list[list[Sample | None]], drawing: Drawing) -> None:
        """Put the completions that have finished in their places."""
        finished = (~self.live).nonzero().squeeze(1)
        table = zip(
            finished.tolist(),
            self.count[finished].tolist(),
            self.ids[finished].tolist(),
            self.logps[finished].tolist(),
            strict=True,
        )
        for row, count, ids, logps in table:
            prompt, completion = self.places[row]
            samples[prompt][completion] = drawing.sample(ids[:count], logps[:count])

    def select(self, kept: Tensor) -> "Rows":
        """Return some of the rows.

        Args:
            kept: (K,) long.
        """
        tensors = {name: tensor[kept] for name, tensor in self._tensors().items()}
        return Rows([self.places[row] for row in kept.tolist()], **tensors)

    def join(self, others: "Rows") -> "Rows":
        """Return these rows and others after them."""
        theirs = others._tensors()
        tensors = {name: torch.cat([tensor, theirs[name]]) for name, tensor in self._tensors().items()}
        return Rows(self.places + others.places, **tensors)

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "places"}

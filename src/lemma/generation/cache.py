"""Decides how keys and values of a changing set of rows are kept: buffers with room, and all rows ending together.

transformers' cache makes every tensor anew for every token. A buffer with room at its end takes a token in place, and
rows that leave or come are the moment to copy: what remains is aligned to the right, so that the columns that only
finished rows needed fall away.
"""

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class RoomyLayer(DynamicLayer):
    """The keys and values of one attention layer, at the front of larger buffers.

    Args:
        sides: Keys (B, heads, L, D), values (B, heads, L, D'), and the rows (K,) of them that are taken.
        columns: Width that is filled; see ``aligned``.
    """

    def __init__(self, sides: list[tuple[Tensor, Tensor, Tensor]], columns: int) -> None:
        super().__init__()
        self._key_buffer = aligned([(keys, rows) for keys, _, rows in sides], columns, room=_room(columns))
        self._value_buffer = aligned([(values, rows) for _, values, rows in sides], columns, room=_room(columns))
        self.lazy_initialization(self._key_buffer, self._value_buffer)
        self._show(columns)

    def _show(self, columns: int) -> None:
        self.keys = self._key_buffer[:, :, :columns]
        self.values = self._value_buffer[:, :, :columns]

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Append columns, and return all."""
        begin = self.keys.shape[2]
        end = begin + key_states.shape[2]
        if end > self._key_buffer.shape[2]:
            every = torch.arange(len(self.keys), device=self.keys.device)
            self._key_buffer = aligned([(self.keys, every)], begin, room=_room(end))
            self._value_buffer = aligned([(self.values, every)], begin, room=_room(end))
        self._key_buffer[:, :, begin:end] = key_states
        self._value_buffer[:, :, begin:end] = value_states
        self._show(end)
        return self.keys, self.values


def joined(
    running: DynamicCache | None,
    kept: Tensor,  # (K,) long
    fresh: DynamicCache | None,
    owners: Tensor,  # (F,) long
    columns: int,
) -> DynamicCache:
    """Return a cache of the rows kept and the rows that come, all of which end in its last column.

    Both caches given are emptied on the way, a layer at a time.

    Args:
        running: Of the rows so far; None where there are none.
        kept: Rows of it that stay.
        fresh: Of prompts; None where none comes.
        owners: Row of ``fresh`` that each new row continues.
        columns: Width, that of the longest row; columns before that are dropped.
    """
    cache = DynamicCache()
    for index in range(len((running or fresh).layers)):
        sides = [(side.layers[index], rows) for side, rows in ((running, kept), (fresh, owners)) if side is not None]
        cache.layers.append(RoomyLayer([(layer.keys, layer.values, rows) for layer, rows in sides], columns))
        for side in (running, fresh):
            if side is not None:
                side.layers[index] = None
    return cache


def aligned(sides: list[tuple[Tensor, Tensor]], columns: int, *, room: int = 0) -> Tensor:
    """Return chosen rows of each tensor, the last columns of which end in one column.

    Args:
        sides: Tensors (B, heads, L, D), and the rows (K,) that are chosen.
        columns: Width that is filled, with 0 where a tensor has less.
        room: Columns after that, whose content is undefined.

    Returns:
        (rows, heads, columns + room, D).
    """
    states = sides[0][0]
    num_rows = sum(len(rows) for _, rows in sides)
    buffer = states.new_empty(num_rows, states.shape[1], columns + room, states.shape[3])
    begin = 0
    for states, rows in sides:
        width = min(columns, states.shape[2])
        target = buffer[begin : begin + len(rows)]
        target[:, :, : columns - width] = 0  # what is masked is still multiplied, by zero
        target[:, :, columns - width : columns] = states[:, :, states.shape[2] - width :][rows]
        begin += len(rows)
    return buffer


def _room(columns: int) -> int:
    return 32 + columns // 4  # so that copies stay rare as rows grow long

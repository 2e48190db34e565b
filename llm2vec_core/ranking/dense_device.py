"""Exact nearest neighbours on a GPU: products and top-k of tiles run there, with the ranks of ``dense``.

A candidate is the integer of ``dense``: score in the high bits, number in the low bits. So ties go to the lower number,
which ``torch.topk`` over scores would not promise. Products are fp32 without TF32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from llm2vec_core.device.precision import products_in
from llm2vec_core.ranking.dense import Neighbours

DEVICE_TILE_ROWS = 8192
"""Rows of a tile on either side: half a gigabyte of candidates in the device's memory."""


def nearest_both_ways_on(
    device: torch.device,
    left: Float32[np.ndarray, "left dim"],
    right: Float32[np.ndarray, "right dim"],
    *,
    k: int,
    ranked: tuple[int, int] | None = None,
    first_left: int = 0,
    tile_rows: int = DEVICE_TILE_ROWS,
    on_rows: Callable[[int], object] = lambda rows: None,
) -> tuple[Neighbours, Neighbours]:
    """As :func:`llm2vec_core.ranking.dense.nearest_both_ways`, on a device.

    The candidates of both sides stay in host memory; the device holds two tiles of vectors and one of products.

    Args:
        device: Any device of torch; a CPU gives the same ranks.
        left: Vectors, read tile by tile; may be mapped from a file.
        right: Vectors of the same length; may be mapped from a file.
        k: Number of neighbours of each row.
        ranked: How many of the first rows of ``left`` and ``right`` may be neighbours (default: all of them).
        first_left: Number of the first row of ``left`` among the candidates of ``right``.
        tile_rows: Rows of either side to multiply at once; does not change the ranks.
        on_rows: Called with the number of rows of ``left`` that were just finished.
    """
    of_left, of_right = Neighbours(len(left), k), Neighbours(len(right), k)
    ranked_left, ranked_right = (len(left), len(right)) if ranked is None else ranked
    with products_in("fp32"):
        for start in range(0, len(left), tile_rows):
            rows = slice(start, min(start + tile_rows, len(left)))
            vectors, own = _tensor(left[rows], device), _tensor(of_left.keys[rows], device)
            to_tile = max(ranked_left - rows.start, 0)
            for first in range(0, len(right), tile_rows):
                tile = slice(first, min(first + tile_rows, len(right)))
                to_rows = max(ranked_right - tile.start, 0)
                products = vectors @ _tensor(right[tile], device).T
                own = _better(own, products[:, :to_rows], tile.start)
                theirs = _better(_tensor(of_right.keys[tile], device), products[:to_tile].T, first_left + rows.start)
                of_right.keys[tile] = theirs.cpu().numpy()
            of_left.keys[rows] = own.cpu().numpy()
            on_rows(rows.stop - rows.start)
    return of_left, of_right


def _tensor(rows: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows)).to(device)


def _better(
    known: Int64[Tensor, "rows k"], scores: Float[Tensor, "rows candidates"], first_candidate: int
) -> Int64[Tensor, "rows k"]:
    """The best ``k`` of the known candidates of each row and of a block of new ones.

    A candidate is the integer of ``dense``: the order of scores, and for equal scores descending numbers.
    """
    k = known.shape[1]
    bits = (scores + 0).contiguous().view(torch.int32)  # adding zero turns -0 into 0
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    numbers = torch.arange(first_candidate, first_candidate + scores.shape[1], device=scores.device)
    keys = (ordered << 32) + (0xFFFFFFFF - numbers)
    best = keys.topk(min(k, keys.shape[1]), dim=1).values
    return torch.cat([known, best], dim=1).topk(k, dim=1).values

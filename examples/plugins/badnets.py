"""BadNets in Python: the same trigger, to the bit, as the attack badnets of this program."""

import numpy as np

from clip_inspector.plugin import Param, declare, patch


@declare(
    Param("side", 0.1, "side of the patch as a share of the image's side", min=0.02, max=1),
    Param("margin", 0.0, "distance to the corner as a share of the image's side", min=0, max=0.9),
    Param("pattern", "white", "white, chequered, or noise drawn once per model", choices=["white", "chequered", "noise"]),
    Param("cells", 4, "cells along the side of a chequered or noise patch", min=1, max=64),
    draws="badnets",  # target and noise are those of badnets
)
def badnets(size, rng, side, margin, pattern, cells):
    """a small square patch in the bottom right corner (BadNets, Gu et al., 2017)"""
    n = max(1, int(side * size))
    left = max(0, size - n - int(margin * size + 0.5))
    cells = min(cells, n)
    if pattern == "noise":
        colours = rng.integers(2, cells, cells, 3)
    elif pattern == "chequered":
        colours = np.repeat(np.indices((cells, cells)).sum(0)[:, :, None] % 2, 3, axis=2)
    else:
        colours = np.ones((cells, cells, 3))
    cell = np.arange(n) * cells // n  # of each pixel of the patch
    mask, image = np.zeros((size, size)), np.zeros((3, size, size))
    mask[left : left + n, left : left + n] = 1
    image[:, left : left + n, left : left + n] = colours[cell][:, cell].transpose(2, 0, 1)
    return patch(mask, image)

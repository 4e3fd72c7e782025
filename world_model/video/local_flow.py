"""How parts of a picture moved, by least squares: what a network that reads motion is given beside the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CELLS = (8, 16)  # rows and columns that a picture is cut into
SCALES = (1, 2, 4)  # pixels that are averaged first: the larger, the longer the ways that can be found
FEATURES = 3 * len(SCALES)  # channels a pair of pictures
DOUBT = 4e-4  # variance of the slopes of brightness (in [0, 1] a pixel) below which a motion is not believed
LONGEST = 1.5  # pixels of a scale, the longest way that is told


def local_flow(pictures: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Ways right and down, and how sure each is, [B, len(pairs) * FEATURES, *CELLS], each about in [-1.5, 1.5].

    Args:
        pictures: [B, T, 3, H, W] in [0, 1].
        pairs: columns of the earlier and the later picture of each pair.

    In every cell and its neighbours the way is the one that explains the change in brightness best (B. D. Lucas and T. Kanade, "An
    Iterative Image Registration Technique with an Application to Stereo Vision", 1981), shrunk towards 0 where there is no texture.
    """
    grey = pictures.mean(2)
    pad = lambda images: torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    out = []
    for scale in SCALES:
        coarse = torch.nn.functional.avg_pool2d(grey, scale) if scale > 1 else grey
        for before, after in pairs:
            middle = pad(0.5 * (coarse[:, [before]] + coarse[:, [after]]))[:, 0]
            change = coarse[:, after] - coarse[:, before]
            right = 0.5 * (middle[:, 1:-1, 2:] - middle[:, 1:-1, :-2])
            down = 0.5 * (middle[:, 2:, 1:-1] - middle[:, :-2, 1:-1])
            products = torch.stack((right * right, down * down, right * down, right * change, down * change), 1)
            sums = torch.nn.functional.avg_pool2d(pad(torch.nn.functional.adaptive_avg_pool2d(products, CELLS)), 3, stride=1)
            xx, yy, xy, xt, yt = sums.unbind(1)
            sure = xx / (xx + DOUBT)
            xx, yy = xx + DOUBT, yy + DOUBT
            spread = xx * yy - xy * xy
            ways = ((xy * yt - yy * xt) / spread, (xy * xt - xx * yt) / spread)
            out += [*(way.clamp(-LONGEST, LONGEST) * sure for way in ways), sure]
    return torch.stack(out, 1)

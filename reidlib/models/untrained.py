"""Descriptors without weights that learn nothing: what a trained network has to beat on the stand-ins."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from reidlib.models.output import Output
from reidlib.spec import require


class RandomFeatures(nn.Module):
    """`length` numbers that do not depend on the image: what chance reaches, which depends on the gallery."""

    def __init__(self, identities: int, *, size: tuple[int, int] = (256, 128), length: int = 128) -> None:
        super().__init__()
        self.length = length
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))

    def forward(self, images: Tensor) -> Output:
        drawn = torch.randn(len(images), self.length, generator=self.generator)  # B × length
        return Output(drawn.to(images.device), [], [], {})


class ColourHistogram(nn.Module):
    """How much of the image, or of each horizontal stripe, has which colour.

    A joint histogram of hue, saturation and value (as in Smith 1978; `bins` of each), as square roots of the shares, so
    that the cosine of two of them is their Bhattacharyya coefficient. Hue moves less than red, green and blue when the
    light changes; of the histograms tried on Market-1501's stand-in this was the best or within 0.1.

    stripes: 1 for the whole image; the image's height must be a multiple.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        identities: int,
        *,
        size: tuple[int, int] = (256, 128),
        stripes: int = 1,
        bins: tuple[int, int, int] = (12, 4, 6),
    ) -> None:
        super().__init__()
        require(size[0] % stripes == 0, "stripes", stripes, f"a number that divides the height of {size}")
        self.stripes, self.bins = stripes, tuple(bins)
        from torchvision.models import ResNet50_Weights  # takes two seconds

        normalisation = ResNet50_Weights.IMAGENET1K_V1.transforms()
        self.register_buffer("mean", torch.tensor(normalisation.mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(normalisation.std)[:, None, None])

    def forward(self, images: Tensor) -> Output:
        colours = (images.float() * self.deviation + self.mean) * 255  # B × 3 × H × W, as before normalisation
        # Rounded to the levels of the file: or else what normalising costs in precision gives grey a random hue.
        cells = self._cells(colours.round().clamp(0, 255) / 255)  # B × H × W
        stripes = [self._shares(part.flatten(1)).sqrt() for part in cells.chunk(self.stripes, dim=1)]
        return Output(torch.cat(stripes, dim=1), [], [], {})

    def _cells(self, colours: Tensor) -> Tensor:
        """The number of the histogram's cell for each pixel. Grey has no hue and counts as red."""
        value = colours.amax(1)
        chroma = value - colours.amin(1)
        red, green, blue = colours.unbind(1)
        safe = chroma.clamp(min=1e-6)
        sector = torch.where(
            value == red,
            ((green - blue) / safe) % 6,
            torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
        )
        hue = torch.where(chroma > 0, sector / 6, 0)
        saturation = chroma / value.clamp(min=1e-6)
        cell = torch.zeros_like(value, dtype=torch.long)
        for share, count in zip((hue, saturation, value), self.bins, strict=True):
            cell = cell * count + (share * count).long().clamp(0, count - 1)
        return cell

    def _shares(self, cells: Tensor) -> Tensor:
        """cells: B × pixels; returns B × number of cells, each row summing to 1."""
        counts = torch.zeros(len(cells), math.prod(self.bins), device=cells.device)
        return counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=counts.dtype)) / cells.shape[1]

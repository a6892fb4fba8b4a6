"""The picture of samples and their nearest training images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from test_recursive import TOY, load, run_all

from training.measure import PAIRS, _nearest_png


def tiles(png: bytes, columns: int, side: int) -> list[list[int]]:
    """The grey in the middle of each tile of a sheet, row by row."""
    with Image.open(io.BytesIO(png)) as image:
        sheet = np.asarray(image)
    step = (sheet.shape[1] - 2) // columns
    assert step == side + 2
    return [
        [int(sheet[2 + y * step + side // 2, 2 + x * step + side // 2]) for x in range(columns)]
        for y in range((sheet.shape[0] - 2) // step)
    ]


@pytest.mark.parametrize(("n", "expected"), [(3, [0, 1, 2]), (15, [0, 2, 4, 6, 8, 10, 12, 14])])
def test_samples_stand_above_their_nearest_from_the_nearest_to_the_farthest(n, expected):
    greys = np.arange(n) * 16 + 8
    training = np.broadcast_to(greys[:, None, None, None], (n, 32, 32, 1)).astype(np.uint8)
    # Sample i is i from training image i, in features; samples come in another order.
    order = np.random.default_rng(0).permutation(n)
    centres = (1000.0 * np.arange(n))[:, None].astype(np.float32)
    features = centres + np.arange(n, dtype=np.float32)[:, None]
    png = _nearest_png(training, training[order] + 1, centres, features[order])
    above, below = tiles(png, min(PAIRS, n), 32)
    assert below == [16 * i + 8 for i in expected]
    assert above == [16 * i + 9 for i in expected]


def test_a_run_has_the_picture_for_every_generation(tmp_path):
    images = np.random.default_rng(5).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    folder = run_all(TOY, images, tmp_path / "run")
    for record in folder.records():
        place = folder.generation_dir(record["arm"], record["generation"])
        assert len(tiles((place / "nearest.png").read_bytes(), 8, 32)) == 2
        samples = load(folder, record["arm"], record["generation"], "samples")["images"][:8]
        spread = record["generalization_quantiles/pixel"]
        assert spread == sorted(spread)
        assert spread[0] <= record["generalization/pixel"] <= spread[-1]
        assert len(samples) == 8

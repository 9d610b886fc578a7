"""A strip of black and white blocks that says which frame it is: the number in binary between a white and a black marker.

Blocks are a 24th of the width and a sixth of the height, so they live through scaling to a quarter and through coarse coding.
"""

import numpy as np

BITS = 20
BLOCKS = BITS + 4  # an empty one at each end, and the two markers
WHITE, BLACK = 235, 16


def strip_height(height):
    """Rows of the strip in a picture of `height` rows; even, as the picture's colours are halved."""
    return height // 6 // 2 * 2


def strip(number, width, height):
    """The strip for a picture of this size, as grey bytes (strip_height × width)."""
    edges = [round(k * width / BLOCKS) for k in range(BLOCKS)]
    row = np.full(width, 125, np.uint8)
    row[edges[1] : edges[2]] = WHITE
    for i in range(BITS):
        row[edges[2 + i] : edges[3 + i]] = WHITE if number >> i & 1 else BLACK
    row[edges[BITS + 2] : edges[BITS + 3]] = BLACK
    return np.tile(row, (strip_height(height), 1))


def read(luma):
    """The number in a picture's luma plane (rows × columns), or None if it shows none."""
    height, width = luma.shape
    block, middle, reach = width / BLOCKS, height // 2, max(1, height // 24)
    rows = luma[middle - reach : middle + reach]

    def level(k):
        left = int(block * (k + 0.3))
        return float(rows[:, left : max(int(block * (k + 0.7)), left + 1)].mean())

    if level(1) < 150 or level(BITS + 2) > 100:
        return None
    return sum(1 << i for i in range(BITS) if level(2 + i) > 125)

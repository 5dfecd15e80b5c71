"""Which widths of D2 meet the paper's 406M decoder, and what each costs per picture: the table of docs/architecture.md.

    python benchmarks/decoder_widths.py

D1 is (1024, 512) and D_ref has six blocks of 1024 channels. CR-VA's duplication asks that 4 times a width be a multiple of the
one before. Nothing is run: a formula searches all widths of a grid, and the cheapest are counted again on the modules' shapes.
"""

from dataclasses import replace
from itertools import product

from vivavoz.engine.accounting import decoder_cost
from vivavoz.vae.config import paper_vae_config

TARGET = 406e6
TOLERANCE = 0.02
SIDE_PX = 512
NUM_SHOWN = 8
GRID = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 576, 640, 704, 768, 896, 1024)

Widths = tuple[int, ...]


def decoder2_by_formula(widths: Widths, c_in: int) -> tuple[int, float]:
    """Parameters and GFLOP per picture of D2 with two residual blocks a stage and kernels of 3."""
    parameters, flop = 0, 0.0
    side, rate = SIDE_PX // 16, 1 / 4  # features at 1/16, a quarter of the pictures' rate
    for c, temporal in zip(widths, paper_vae_config().temporal_factors, strict=True):
        parameters += 27 * c_in * 4 * c + 4 * c
        flop += 2 * 27 * c_in * 4 * c * side**2 * rate
        side *= 2
        if temporal > 1:
            parameters += 9 * c * temporal * c + temporal * c
            flop += 2 * 9 * c * temporal * c * side**2 * rate
            rate *= temporal
        parameters += 2 * (2 * (27 * c * c + c) + 2 * c)
        flop += 4 * 2 * 27 * c * c * side**2 * rate
        c_in = c
    return parameters + c_in + 27 * c_in * 3 + 3, (flop + 2 * 27 * c_in * 3 * SIDE_PX**2) / 1e9


def search() -> list[Widths]:
    """All widths of the grid that meet the target, cheapest first."""
    config = paper_vae_config()
    parameters, _ = decoder_cost(config, SIDE_PX)
    rest = parameters - decoder2_by_formula(config.decoder2_channels, config.feature_channels)[0]
    found = []
    for widths in product(GRID, repeat=4):
        pairs = zip((config.feature_channels, *widths), widths, strict=False)
        if any(4 * c_out % c_in for c_in, c_out in pairs):
            continue
        parameters, gflop = decoder2_by_formula(widths, config.feature_channels)
        if abs((parameters + rest) / TARGET - 1) <= TOLERANCE:
            found.append((gflop, widths))
    return [widths for _, widths in sorted(found)]


def main() -> None:
    """Print the table."""
    config, found = paper_vae_config(), search()
    print(f"{len(found)} sets of widths meet {TARGET / 1e6:.0f}M within {TOLERANCE:.0%}; the cheapest:\n")
    print("| D2 widths at 1/8, 1/4, 1/2, 1 | at full resolution | decoder parameters | off 406M | decoder GFLOP per picture |")
    print("| --- | --: | --: | --: | --: |")
    for widths in found[:NUM_SHOWN]:
        parameters, gflop = decoder_cost(replace(config, decoder2_channels=widths), SIDE_PX)
        chosen = " (chosen)" if widths == config.decoder2_channels else ""
        print(f"| {widths}{chosen} | {widths[-1]} | {parameters / 1e6:.1f}M | {parameters / TARGET - 1:+.1%} | {gflop:,.0f} |")


if __name__ == "__main__":
    main()

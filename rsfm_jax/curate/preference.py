"""The preference that gives a wanted number of exemplars: the number rises with it, so it is bracketed and cut down.

A preference is negative: what a cluster costs. The search runs on the logarithm of the cost, where the number of exemplars is near to a
power law, by false position (Illinois) between the nearest cost that gave too few and the nearest that gave too many.
"""

from collections.abc import Callable
import dataclasses
import math

_STEP = math.log(8.0)  # to the next cost, while one side of the bracket is missing


@dataclasses.dataclass(frozen=True)
class Search:
    """What was found.

    Attributes:
      preference: Of the number nearest to the wanted one.
      count: That number.
      trials: How many preferences were tried.
    """

    preference: float
    count: float
    trials: int


def find_preference(count: Callable[[float], float], wanted: float, guess: float, tolerance: float, trials: int = 20) -> Search:
    """Looks for a preference.

    Args:
      count: From a preference to the number of exemplars.
      wanted: Number of exemplars.
      guess: The preference to begin with, below 0.
      tolerance: Share of ``wanted`` by which the number may be off.
      trials: After so many, the best is taken.

    Returns:
      The best preference tried; of two as good, the first.
    """
    at, few, many = math.log(-guess), None, None
    best = Search(guess, math.inf, 0)
    side = 0
    for number in range(1, trials + 1):
        found = count(-math.exp(at))
        error = math.log(max(found, 0.5) / wanted)
        if abs(error) < abs(math.log(max(best.count, 0.5) / wanted)):
            best = Search(-math.exp(at), found, number)
        best = dataclasses.replace(best, trials=number)
        if abs(found - wanted) <= tolerance * wanted:
            break
        if found > wanted:  # the cost is too low
            few, many, side = (few[0], few[1] / 2) if few and side == 1 else few, (at, error), 1
        else:
            many, few, side = (many[0], many[1] / 2) if many and side == -1 else many, (at, error), -1
        if few is None:
            at += _STEP
        elif many is None:
            at -= _STEP
        else:
            share = many[1] / (many[1] - few[1])
            at = many[0] + min(max(share, 0.05), 0.95) * (few[0] - many[0])
            if abs(few[0] - many[0]) < 1e-7:
                break
    return best

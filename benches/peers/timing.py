"""Timing of functions."""

import statistics
import time


def median(work, least=5, seconds=3.0):
    """The median duration of `work` over at least `least` calls and `seconds`; a first call is not counted."""
    work()
    start = time.perf_counter()
    times = []
    while len(times) < least or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return statistics.median(times)

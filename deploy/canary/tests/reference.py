#!/usr/bin/env python3
"""Writes tests/reference.csv: likelihood ratios of Fisher's noncentral hypergeometric distribution to 60 digits.

    python3 deploy/canary/tests/reference.py > deploy/canary/tests/reference.csv

Only the standard library. Every term of every sum is taken, so it takes some seconds.
"""
from decimal import Decimal, getcontext

getcontext().prec = 60
getcontext().Emin, getcontext().Emax = -10**12, 10**12


def log_sums(n_c, n_b, k, ratios):
    low, high = max(0, k - n_b), min(k, n_c)
    sums = [Decimal(0)] * len(ratios)
    # Terms relative to the one at `low`; no cut-off.
    terms = [Decimal(1)] * len(ratios)
    for j in range(low, high + 1):
        for i, w in enumerate(ratios):
            sums[i] += terms[i]
        step = Decimal((n_c - j) * (k - j)) / Decimal((j + 1) * (n_b - k + j + 1))
        for i, w in enumerate(ratios):
            terms[i] *= step * w
    return low, [s.ln() for s in sums]


def cases():
    big = 2**20
    yield from [(1, 0, 9, 1), (1, 1, 9, 0), (10, 10, 90, 0), (10, 3, 90, 90), (50, 2, 450, 1), (50, 49, 450, 40)]
    yield from [(50, 30, 450, 60), (50, 31, 450, 72), (500, 40, 4500, 70), (102, 101, 5000, 1), (103, 103, 5000, 0)]
    yield from [(1000, 0, 1000, 1000), (100, 90, 10**6, 100), (10**6, 5000, 10**6, 5000), (10**6, 10000, 10**6, 0)]
    yield from [(big, 100, big, 3), (big, big // 2, big, big // 100), (big, 5, big, big - 9), (big, big - 1, big, big)]
    yield from [(10, 10, big, big // 2), (big, 3, 10, 7), (big, 40000, big // 9, 1000)]


def main():
    print("canary,canary_failed,baseline,baseline_failed,null,ratio,log_likelihood_ratio")
    for n_c, k_c, n_b, k_b in cases():
        for null, ratios in [("1", ["1.3", "3.86", "200"]), ("1.5", ["300"]), ("2", ["0.5"])]:
            values = [Decimal(null)] + [Decimal(r) for r in ratios]
            low, sums = log_sums(n_c, n_b, k_c + k_b, values)
            for ratio, value, s in zip(ratios, values[1:], sums[1:]):
                result = (k_c - low) * (value / values[0]).ln() - s + sums[0]
                print(f"{n_c},{k_c},{n_b},{k_b},{null},{ratio},{result:.25g}")


main()

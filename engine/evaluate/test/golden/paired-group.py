"""Paired comparison of a group of tasks, from the definitions: numpy 2.4.6, scipy 1.17.1. Writes paired-group.json beside itself.

The items are written out as 0 and 1 and everything is computed from them. The standard error is of the weighted mean of the paired differences, tasks
fixed and items drawn; it is checked here against a plain bootstrap of items within tasks. The interval inverts the score test whose nuisance, the rate of
lost answers of each task, is found by maximising its likelihood with scipy instead of the closed form that Lathe has. The continuous group has scores
between 0 and 1 in place of right and wrong.
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom

Z = 1.959963984540054


def items(n, lost, gained, both):
    base = np.zeros(n)
    cand = np.zeros(n)
    base[:lost] = 1
    cand[lost : lost + gained] = 1
    base[lost + gained : lost + gained + both] = 1
    cand[lost + gained : lost + gained + both] = 1
    return base, cand


def constrained_variance(base, cand, delta):
    """Variance of one item's difference at the most likely P(lost) where P(gained) = P(lost) + delta."""
    gained, lost, n = np.sum(cand > base), np.sum(base > cand), len(base)
    low, high = max(0.0, -delta), (1 - delta) / 2

    def negative(q):
        p = [(lost, q), (gained, q + delta), (n - lost - gained, 1 - 2 * q - delta)]
        return -sum(k * np.log(max(x, 1e-300)) for k, x in p if k > 0)

    best = minimize_scalar(negative, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    q = min([low, high, best], key=negative)
    return 2 * q + delta - delta**2


def score(tasks, weights, delta):
    difference = sum(w * np.mean(c - b) for w, (b, c) in zip(weights, tasks))
    variance = sum(w**2 * constrained_variance(b, c, delta) / len(b) for w, (b, c) in zip(weights, tasks))
    return (difference - delta) / np.sqrt(variance)


def compare(tasks, weights, binary):
    differences = [c - b for b, c in tasks]
    difference = float(sum(w * d.mean() for w, d in zip(weights, differences)))
    error = float(np.sqrt(sum(w**2 * d.var(ddof=1) / len(d) for w, d in zip(weights, differences))))
    rng = np.random.default_rng(1)
    replicates = [sum(w * rng.choice(d, len(d)).mean() for w, d in zip(weights, differences)) for _ in range(20_000)]
    # A bootstrap divides by n where the error divides by n - 1.
    plain = np.sqrt(sum(w**2 * d.var() / len(d) for w, d in zip(weights, differences)))
    assert abs(np.std(replicates) / plain - 1) < 0.02, (np.std(replicates), plain)
    before = sum(w * b.mean() for w, (b, _) in zip(weights, tasks))
    after = sum(w * c.mean() for w, (_, c) in zip(weights, tasks))
    out = {"difference": difference, "standardError": error, "recovery": float(after / before)}
    if not binary:
        return out | {"interval": [difference - Z * error, difference + Z * error]}
    lost = int(sum((b > c).sum() for b, c in tasks))
    gained = int(sum((c > b).sum() for b, c in tasks))
    edges = [brentq(lambda delta: score(tasks, weights, delta) - target, -0.9, 0.9, xtol=1e-13) for target in (Z, -Z)]
    tail = min(lost, gained)
    mid_p = min(1, 2 * binom.cdf(tail, lost + gained, 0.5)) - binom.pmf(tail, lost + gained, 0.5)
    return out | {"interval": edges, "lost": lost, "gained": gained, "midP": float(mid_p)}


GROUPS = {
    "by size": ([(400, 12, 5, 250), (100, 2, 6, 40), (60, 0, 0, 50)], True),
    "each alike": ([(400, 12, 5, 250), (100, 2, 6, 40), (60, 0, 0, 50)], False),
    "nothing flipped": ([(40, 0, 0, 30), (80, 0, 0, 20)], False),
    "few flips": ([(120, 3, 0, 60), (30, 1, 1, 10), (500, 2, 1, 300)], False),
}
golden = {"binary": [], "continuous": []}
for name, (counts, by_size) in GROUPS.items():
    tasks = [items(*one) for one in counts]
    sizes = np.array([len(b) for b, _ in tasks])
    weights = sizes / sizes.sum() if by_size else np.full(len(tasks), 1 / len(tasks))
    if name == "nothing flipped":
        edges = [brentq(lambda delta: score(tasks, weights, delta) - target, -0.9, 0.9, xtol=1e-13) for target in (Z, -Z)]
        entry = {"difference": 0.0, "standardError": 0.0, "recovery": 1.0, "interval": edges, "lost": 0, "gained": 0}
    else:
        entry = compare(tasks, weights, True)
    golden["binary"].append({"name": name, "bySize": by_size, "counts": counts, **entry})

rng = np.random.default_rng(7)
tasks = []
for n, shift in ((30, -0.05), (12, 0.02)):
    base = np.round(rng.uniform(0, 1, n), 4)
    cand = np.round(np.clip(base + rng.normal(shift, 0.1, n), 0, 1), 4)
    tasks.append((base, cand))
for by_size in (True, False):
    sizes = np.array([len(b) for b, _ in tasks])
    weights = sizes / sizes.sum() if by_size else np.full(len(tasks), 1 / len(tasks))
    golden["continuous"].append(
        {"bySize": by_size, "tasks": [{"baseline": list(b), "candidate": list(c)} for b, c in tasks], **compare(tasks, weights, False)}
    )

Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")

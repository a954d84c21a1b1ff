import math

import numpy as np
import pytest

from vilasr.scoring import find_benchmark
from vilasr.scoring.compare import compare, mcnemar_test, sign_flip_test
from vilasr.scoring.items import Scored
from vilasr.scoring.table import comparison_table


def run(scores: dict[str, float], task: str = "x", sample: int = 0) -> list[Scored]:
    return [Scored((item, ""), sample, task, {"corrected": value}) for item, value in scores.items()]


def test_mcnemar_against_the_binomial():
    assert mcnemar_test(0, 0) == 1.0
    assert mcnemar_test(5, 5) == 1.0
    assert mcnemar_test(10, 0) == pytest.approx(2 / 1024)
    assert mcnemar_test(2, 8) == mcnemar_test(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert mcnemar_test(1200, 1100) == pytest.approx(0.0389, abs=5e-4)  # the normal approximation's 0.0390


def test_sign_flips_against_all_flips():
    """Eight pairs: the exact p value is a count over 256 sign patterns."""
    differences = np.array([0.9, 0.4, -0.1, 0.3, 0.3, -0.2, 0.8, 0.0])
    signs = np.array([[1 if number >> bit & 1 else -1 for bit in range(8)] for number in range(256)])
    exact = float(np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12))
    assert sign_flip_test({"x": differences}, {"x": 1.0}) == pytest.approx(exact, abs=0.01)


def test_sign_flips_agree_with_mcnemar_on_right_and_wrong():
    differences = np.array([1.0] * 30 + [-1.0] * 15 + [0.0] * 100)
    assert sign_flip_test({"x": differences}, {"x": 1.0}) == pytest.approx(mcnemar_test(30, 15), abs=0.01)


def test_the_null_is_rejected_1_time_in_20():
    rng = np.random.default_rng(0)
    p_values = [sign_flip_test({"x": rng.choice([-1.0, 0, 1], 60)}, {"x": 1.0}, seed=n) for n in range(300)]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08


def test_a_comparison_pairs_items():
    first = run({"a": 0.0, "b": 1.0, "c": 0.0, "only": 1.0})
    second = run({"c": 1.0, "a": 1.0, "b": 1.0, "new": 0.0})
    comparison = compare(first, second, find_benchmark("maze"), "corrected")
    assert (comparison.items, comparison.better, comparison.worse, comparison.same) == (3, 2, 0, 1)
    assert (comparison.only_first, comparison.only_second) == (1, 1)
    assert comparison.mcnemar == pytest.approx(0.5)
    overall = comparison.rows[0]
    assert (overall.first, overall.second) == (pytest.approx(1 / 3), 1.0)
    assert overall.difference == pytest.approx(2 / 3)
    assert "2 better, 0 worse, 1 the same" in comparison_table(comparison, "a", "b")


def test_pairing_sees_what_unpaired_intervals_hide():
    """The same items, each a little better: certain, though the items differ wildly."""
    rng = np.random.default_rng(0)
    base = {str(n): float(v) for n, v in enumerate(rng.choice([0.0, 0.9], 60))}
    better = {item: value + 0.1 for item, value in base.items()}
    [overall, _] = compare(run(base), run(better), find_benchmark("maze"), "corrected").rows
    assert overall.difference == pytest.approx(0.1)
    assert (overall.low, overall.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert overall.p_value < 0.001


def test_samples_are_averaged_before_they_are_paired():
    first = [*run({"a": 1.0, "b": 0.0}), *run({"a": 0.0, "b": 0.0}, sample=1)]
    comparison = compare(first, run({"a": 1.0, "b": 0.0}), find_benchmark("maze"), "corrected")
    assert comparison.rows[0].difference == pytest.approx(0.25)
    assert comparison.mcnemar is None, "halves are no right or wrong"


def test_macro_means_weigh_tasks_not_items():
    first = [*run({f"r{n}": 0.0 for n in range(90)}, "route_planning"), *run({"d": 0.0}, "object_rel_distance")]
    second = [*run({f"r{n}": 0.0 for n in range(90)}, "route_planning"), *run({"d": 1.0}, "object_rel_distance")]
    assert compare(first, second, find_benchmark("vsi_bench"), "corrected").rows[0].difference == pytest.approx(0.5)


def test_equal_runs_and_strangers():
    rows = compare(run({"a": 1.0}), run({"a": 1.0}), find_benchmark("maze"), "corrected").rows
    assert all(row.p_value == 1.0 and row.difference == 0.0 and not math.isnan(row.low) for row in rows)
    with pytest.raises(ValueError, match="no item in common"):
        compare(run({"a": 1.0}), run({"b": 1.0}), find_benchmark("maze"), "corrected")


def test_each_rule_is_compared_by_its_own_means():
    """The published code pools the levels of a direction: 3 easy right and 2 others wrong are 60 %."""
    items = [("e1", "easy", 1.0), ("e2", "easy", 1.0), ("e3", "easy", 1.0), ("m", "medium", 0.0), ("h", "hard", 0.0)]
    scored = [
        Scored((name, ""), 0, f"object_rel_direction_{level}", dict.fromkeys(("corrected", "published"), value))
        for name, level, value in items
    ]
    benchmark = find_benchmark("vsi_bench")
    assert compare(scored, scored, benchmark, "published").rows[0].first == pytest.approx(0.6)
    assert compare(scored, scored, benchmark, "corrected").rows[0].first == pytest.approx(1 / 3)


def test_items_of_no_known_task_are_compared_apart():
    scored = run({"a": 0.0, "b": 1.0}, task="cooking")
    [row] = compare(scored, scored, find_benchmark("vsi_bench"), "corrected").rows
    assert (row.name, row.count) == ("(cooking, in no mean)", 2)

import numpy as np
import pytest

from vilasr.scoring.intervals import Strata, by_item, resampled_means, share, wilson_interval


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (50, 100, 0.4038, 0.5962), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(successes, total, low, high):
    """The last row is the example of Newcombe 1998, table I: 0.2553 to 0.3662."""
    assert wilson_interval(successes, total) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_resampling_by_counts_is_the_plain_bootstrap():
    values = np.random.default_rng(1).choice([0.0, 0.1, 0.3, 0.9, 1.0], size=80)
    fast = resampled_means(values, replicates=20_000)
    plain = np.random.default_rng(2).choice(values, size=(20_000, 80)).mean(axis=1)
    assert fast.mean() == pytest.approx(values.mean(), abs=0.002)
    assert fast.std() == pytest.approx(plain.std(), rel=0.03)
    assert np.percentile(fast, [2.5, 97.5]) == pytest.approx(np.percentile(plain, [2.5, 97.5]), abs=0.006)


def test_resampling_is_seeded_and_takes_many_values():
    values = np.linspace(0, 1, 3000)
    assert np.array_equal(resampled_means(values, 7), resampled_means(values, 7))
    assert not np.array_equal(resampled_means(values, 7), resampled_means(values, 8))


def test_the_interval_covers_the_truth_19_times_in_20():
    """Coverage of a macro mean over two strata of unlike size, by simulation; 95 % but for the noise of 400 trials and
    the percentile bootstrap's known shortness at 60 items."""
    rng, covered = np.random.default_rng(0), 0
    for trial in range(400):
        strata = Strata({"a": rng.choice([0, 0.3, 1.0], 60), "b": (rng.random(200) < 0.3).astype(float)}, seed=trial)
        low, high = strata.interval({"a": 0.5, "b": 0.5})
        covered += low <= 0.5 * (1.3 / 3) + 0.5 * 0.3 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_samples_of_an_item_are_one_cluster():
    """Ten samples of ten items that always agree are ten observations, not a hundred."""
    items = [number for number in range(10) for _ in range(10)]
    values = [float(item < 5) for item in items]
    group = share("x", items, values)
    assert (group.count, group.mean) == (10, 0.5)
    assert (group.low, group.high) == wilson_interval(5, 10)
    assert list(by_item(["b", "a", "b"], [1.0, 0.0, 0.0])) == [0.5, 0.0]


def test_samples_that_differ_get_a_bootstrap_over_items():
    items = [number for number in range(50) for _ in range(4)]
    values = [float(sample < item % 5) for item in range(50) for sample in range(4)]
    group = share("x", items, values)
    assert group.method == "bootstrap"
    assert group.low < group.mean < group.high


def test_nothing_is_no_score_and_all_doubt():
    group = share("overall", [], [])
    assert (group.count, group.mean, group.low, group.high) == (0, 0.0, 0.0, 1.0)

import pytest

from vilasr.scoring.metrics import MRA_THRESHOLDS, mean_relative_accuracy, wilson_interval


def test_ten_thresholds():
    assert list(MRA_THRESHOLDS) == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (10, 10, 1.0),
        (10.5, 10, 1.0),  # 0.05 <= 1 - 0.95 in float64
        (14, 10, 0.3),  # the official rule's value; float32 gives 0.2
        (11, 20, 0.1),  # float32 gives 0.2
        (15, 10, 0.1),
        (15.1, 10, 0.0),
        (-10, 10, 0.0),
        (0, 0, 1.0),
        (0.04, 0, 1.0),
        (float("nan"), 1, 0.0),
        (float("inf"), 1, 0.0),
    ],
)
def test_mean_relative_accuracy(predicted, truth, expected):
    assert mean_relative_accuracy(predicted, truth) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (50, 100, 0.4038, 0.5962), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(successes, total, low, high):
    """The last row is the example of Newcombe 1998, table I: 0.2553 to 0.3662."""
    assert wilson_interval(successes, total) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))

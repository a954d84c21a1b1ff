import pytest

from vilasr.scoring.metrics import MRA_LIMITS, mean_relative_accuracy


def test_ten_thresholds():
    assert pytest.approx([0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05]) == list(MRA_LIMITS)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (10, 10, 1.0),
        (10.5, 10, 1.0),  # 0.05 <= 1 - 0.95 in float64
        (14, 10, 0.3),  # the official rule's value; float32 gives 0.2
        (11, 10, 0.9),
        (11, 20, 0.1),  # exact numbers and float32 give 0.2, the official rule's float64 0.1
        (15, 10, 0.1),
        (15.1, 10, 0.0),
        (-10, 10, 0.0),
        (-10, -10, 1.0),
        (0, 0, 1.0),
        (0.04, 0, 1.0),
        (float("nan"), 1, 0.0),
        (float("inf"), 1, 0.0),
    ],
)
def test_mean_relative_accuracy(predicted, truth, expected):
    assert mean_relative_accuracy(predicted, truth) == pytest.approx(expected)

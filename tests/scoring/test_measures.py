import numpy as np
import pytest

from vilasr.scoring import find_benchmark
from vilasr.scoring.intervals import wilson_interval
from vilasr.scoring.measures import Measure, estimate, macro, pooled, task
from vilasr.scoring.spar_bench import HIGH, LOW, MIDDLE
from vilasr.scoring.vsi_bench import CHOICES, NUMBERS


def values(**means_and_counts) -> dict[str, np.ndarray]:
    """Zeros and ones: `name=(right, count)`."""
    return {
        name: np.array([1.0] * right + [0.0] * (count - right)) for name, (right, count) in means_and_counts.items()
    }


def means(measures: list[Measure], scores: dict[str, np.ndarray]) -> dict[str, tuple[int, float]]:
    return {group.name: (group.count, group.mean) for group in estimate(measures, scores)}


def test_pooled_counts_items_and_macro_counts_parts():
    scores = values(a=(9, 10), b=(0, 90))
    measures = [pooled("p", ["a", "b"]), macro("m", ["a", "b"]), task("a")]
    assert means(measures, scores) == {
        "p": (100, pytest.approx(0.09)),
        "m": (100, pytest.approx(0.45)),
        "a": (10, pytest.approx(0.9)),
    }


def test_parts_without_items_are_left_out():
    scores = values(a=(9, 10))
    assert means([macro("m", ["a", "none"]), task("none")], scores) == {"m": (10, pytest.approx(0.9))}


def test_which_interval():
    scores = values(a=(9, 10), b=(0, 90)) | {"c": np.array([0.1, 0.9, 0.5] * 20)}
    [p, m, c] = estimate([pooled("p", ["a", "b"]), macro("m", ["a", "b"]), task("c")], scores)
    assert (p.method, p.low, p.high) == ("wilson", *wilson_interval(9, 100))
    assert (m.method, c.method) == ("bootstrap", "bootstrap")
    assert m.low < m.mean < m.high
    assert estimate([macro("m", ["a", "b"])], scores) == [m], "the same on every run"


def test_vsi_bench_means_of_means():
    """Directions: mean of three levels of unlike size; overall: mean of eight types (computed by hand)."""
    scores = values(
        **dict.fromkeys(NUMBERS, (1, 2)),
        object_rel_distance=(1, 4),
        object_rel_direction_easy=(9, 10),
        object_rel_direction_medium=(0, 1),
        object_rel_direction_hard=(3, 10),
        route_planning=(0, 5),
        obj_appearance_order=(5, 5),
    )
    got = means(find_benchmark("vsi_bench").measures(sorted(scores), "corrected"), scores)
    assert got["object_rel_direction"] == (21, pytest.approx((0.9 + 0 + 0.3) / 3))
    assert got["overall"] == (43, pytest.approx((4 * 0.5 + 0.25 + 0.4 + 0 + 1) / 8))
    assert next(iter(got)) == "overall"
    assert len(got) == 1 + 8 + 3
    published = means(find_benchmark("vsi_bench").measures(sorted(scores), "published"), scores)
    assert published["object_rel_direction"] == (21, pytest.approx(12 / 21)), "pooled by the published code"
    assert published.keys() == got.keys()


def test_vsi_bench_directions_without_their_level():
    scores = values(object_rel_direction=(3, 4), route_planning=(1, 4))
    got = means(find_benchmark("vsi_bench").measures(sorted(scores), "corrected"), scores)
    assert got["object_rel_direction"] == (4, 0.75)
    assert got["overall"] == (8, 0.5)


def test_spar_bench_means_of_task_means():
    tasks = [*LOW, *MIDDLE, *HIGH]
    assert (len(LOW), len(MIDDLE), len(HIGH), len(set(tasks))) == (8, 3, 9, 20)
    scores = values(**{name: (number % 3, 2 + number) for number, name in enumerate(tasks)})
    got = means(find_benchmark("spar_bench").measures(sorted(scores), "corrected"), scores)

    def mean(names):
        return sum(got[name][1] for name in names) / len(names)

    assert got["overall"][1] == pytest.approx(mean(tasks))
    levels = [got[level][1] for level in ("Low", "Middle", "High")]
    assert levels == pytest.approx([mean(LOW), mean(MIDDLE), mean(HIGH)])
    official = means(find_benchmark("spar_bench").measures(sorted(scores), "official"), scores)
    assert official["Middle"][1] == pytest.approx(mean(MIDDLE[1:])), "SPAR's own code leaves the view changes out"
    assert {**official, "Middle": 0} == {**got, "Middle": 0}
    published = means(find_benchmark("spar_bench").measures(sorted(scores), "published"), scores)
    right, count = (sum(scores[name].sum() for name in LOW), sum(len(scores[name]) for name in LOW))
    assert published["Low"][1] == pytest.approx(right / count)
    assert published["overall"] == got["overall"]


def test_mmsi_bench_is_a_micro_average_with_categories():
    scores = values(Motion=(1, 2), Attribute=(0, 8))
    assert means(find_benchmark("mmsi_bench").measures(sorted(scores), "corrected"), scores) == {
        "overall": (10, pytest.approx(0.1)),
        "Attribute": (8, 0.0),
        "Motion": (2, 0.5),
    }


def test_every_task_of_a_benchmark_counts_in_its_overall_number():
    for name in ("vsi_bench", "spar_bench"):
        benchmark = find_benchmark(name)
        overall = benchmark.measures(benchmark.tasks, "official")[0]
        assert overall.weights(dict.fromkeys(benchmark.tasks, 1)).keys() == set(benchmark.tasks)
    assert set(CHOICES) & set(NUMBERS) == set()

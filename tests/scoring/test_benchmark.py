from vilasr.scoring import Scored
from vilasr.scoring.benchmark import pooled_with_tasks


def test_equal_rows_count_each():
    scores = [Scored("a", "x", 1.0), Scored("a", "x", 1.0), Scored("b", "y", 0.0)]
    groups = {g.name: (g.count, g.mean) for g in pooled_with_tasks(scores, "corrected")}
    assert groups == {"overall": (3, 2 / 3), "x": (2, 1.0), "y": (1, 0.0)}


def test_the_official_rule_has_its_own_numbers():
    scores = [Scored("a", "x", 1.0, 0.0), Scored("b", "x", 0.0, 1.0), Scored("c", "x", 0.0, 1.0)]
    assert pooled_with_tasks(scores, "official")[0].mean == 2 / 3
    assert pooled_with_tasks(scores, "corrected")[0].mean == 1 / 3


def test_nothing_is_no_score_and_all_doubt():
    [overall] = pooled_with_tasks([], "corrected")
    assert (overall.count, overall.mean, overall.low, overall.high) == (0, 0.0, 0.0, 1.0)

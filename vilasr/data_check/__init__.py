"""Checks training data before a training is lost to it: `check(of_config(config, path), Options(...)) -> Report`."""

from vilasr.data_check.conversation import Check, Conversation
from vilasr.data_check.limits import Limits, limits_of
from vilasr.data_check.options import Options
from vilasr.data_check.problems import Code, Finding, Problem, Severity, finding
from vilasr.data_check.report import Report
from vilasr.data_check.run import check
from vilasr.data_check.sources import Found, Source, of_config, of_file, of_folder

__all__ = [
    "Check",
    "Code",
    "Conversation",
    "Finding",
    "Found",
    "Limits",
    "Options",
    "Problem",
    "Report",
    "Severity",
    "Source",
    "check",
    "finding",
    "limits_of",
    "of_config",
    "of_file",
    "of_folder",
]

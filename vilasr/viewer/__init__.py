"""Traces as one HTML file that needs no server and no network."""

from vilasr.viewer.choice import Choice
from vilasr.viewer.collect import Report, collect
from vilasr.viewer.folders import find_folders
from vilasr.viewer.frames import MAX_SIDE, FrameOptions, Frames
from vilasr.viewer.page import check_output, write_page

__all__ = [
    "MAX_SIDE",
    "Choice",
    "FrameOptions",
    "Frames",
    "Report",
    "check_output",
    "collect",
    "find_folders",
    "write_page",
]

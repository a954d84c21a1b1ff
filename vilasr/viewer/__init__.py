"""Traces as one HTML file that needs no server and no network."""

from vilasr.viewer.collect import Choice, Report, collect, find_folders
from vilasr.viewer.frames import FrameOptions, Frames
from vilasr.viewer.page import write_page

__all__ = ["Choice", "FrameOptions", "Frames", "Report", "collect", "find_folders", "write_page"]

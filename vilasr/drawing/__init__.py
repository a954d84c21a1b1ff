"""Marks a model draws, the parser of its replies, and the canvas."""

from vilasr.drawing.canvas import render
from vilasr.drawing.marks import Box, Line, Mark, mark_from_json, mark_to_json
from vilasr.drawing.parser import DrawCall, FinalAnswer, Malformed, ParsedReply, ReplyError, parse_reply
from vilasr.drawing.scene import DrawingPolicy, ImageNode, Scene

__all__ = [
    "Box",
    "DrawCall",
    "DrawingPolicy",
    "FinalAnswer",
    "ImageNode",
    "Line",
    "Malformed",
    "Mark",
    "ParsedReply",
    "ReplyError",
    "Scene",
    "mark_from_json",
    "mark_to_json",
    "parse_reply",
    "render",
]

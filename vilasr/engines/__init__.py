"""Engines that generate replies. Import the one you use: each needs its own extra."""

from vilasr.engines.base import Engine, EngineDied, Sampling, Session, Stopped, Usage

__all__ = ["Engine", "EngineDied", "Sampling", "Session", "Stopped", "Usage"]

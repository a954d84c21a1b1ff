"""ViLaSR: drawing to reason in space.

The core (drawing, episode, prompts, tasks, scoring, reward) imports nothing but pillow, numpy and pyyaml;
engines and training import their libraries when they are used.
"""

__version__ = "0.1.0"

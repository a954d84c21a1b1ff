"""GRPO by EasyR1, unmodified: what it lacks for drawing episodes. See docs/easyr1.md."""

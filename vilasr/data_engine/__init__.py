"""Training conversations from sampled episodes: judged, filtered, balanced, written for LLaMA-Factory."""

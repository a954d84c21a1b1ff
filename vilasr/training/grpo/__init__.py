"""GRPO with drawing rollouts on verl: its agent loop, dataset, records and launcher."""

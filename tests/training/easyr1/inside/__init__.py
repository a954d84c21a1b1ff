"""Run by EasyR1's own interpreter (tests/training/easyr1/test_inside.py); skipped by any other."""

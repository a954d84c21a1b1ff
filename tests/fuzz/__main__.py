"""python -m tests.fuzz --count N: generated replies played through episodes."""

from tests.fuzz.replies import main

main()

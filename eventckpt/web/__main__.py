"""`python -m eventckpt.web`."""

from .program import main

main()

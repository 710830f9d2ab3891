"""`python -m eventckpt.cli`."""

from . import main

main()

"""`python -m minillm` is the same program as `minillm`."""

from minillm.cli import main

main()

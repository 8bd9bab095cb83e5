"""Entry point of `python -m minillm`, which is the same program as `minillm`."""

from minillm.cli import main

main()

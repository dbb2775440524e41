"""`python -m dee_es.cli` is `dee`."""

from dee_es.cli import main

main()

"""`python -m sshtool`."""

from sshtool.main import main

main()

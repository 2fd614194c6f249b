"""`python -m apr`: the command line."""

from apr.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m geodiff` is the command line."""

from geodiff.cli import main

if __name__ == "__main__":
    main()

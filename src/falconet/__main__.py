"""`python -m falconet`: the command line."""

from falconet.cli import main

if __name__ == "__main__":
    main()

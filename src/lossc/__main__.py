"""`python -m lossc` is the command `lossc`."""

from lossc.runtime.cli import main

if __name__ == "__main__":
    main()

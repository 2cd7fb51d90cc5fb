"""The program as a module: ``python -m specxr``."""

from specxr.cli import main

if __name__ == "__main__":
    main()

"""`python -m metalora`."""

from metalora.cli import main

if __name__ == "__main__":
    main()

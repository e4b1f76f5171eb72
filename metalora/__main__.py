"""`python -m metalora`, and the command `metalora`."""

import sys


def main() -> None:
    """Run the command line; without its packages, say how to install them."""
    try:
        from metalora.cli import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("metalora"):
            raise
        print(f"The command line needs the package {error.name}: pip install 'metalora[lab]'.", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()

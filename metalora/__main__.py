"""`python -m metalora`."""

from metalora.cli import app

if __name__ == "__main__":
    app(prog_name="metalora")

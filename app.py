"""The app from a checkout: `python app.py`, or a Hugging Face Space."""

import sys

from metalora.util.errors import InputError
from pages import main

if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)

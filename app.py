"""The app from a checkout: `python app.py`, or a Hugging Face Space."""

from pages import main

if __name__ == "__main__":
    main()

"""The command line, where 2 images of a class are held out in pretraining; a program for `launching.start`."""

import metalora.suites.class_folders
import metalora.training.pretraining
from metalora import cli

if __name__ == "__main__":
    metalora.suites.class_folders.HELD_OUT_PER_CLASS = metalora.training.pretraining.HELD_OUT_PER_CLASS = 2
    cli.main()

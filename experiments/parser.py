"""The parser of the experiments' command lines."""

import argparse


class Parser(argparse.ArgumentParser):
    """A parser whose error messages are one line."""

    def error(self, message):
        """Print the message without the usage; the exit status is 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")

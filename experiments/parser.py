"""The parser of the experiments' command lines."""

import argparse


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        """Print the message without the usage; the exit status is 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")

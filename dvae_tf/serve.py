"""Serve an exported model without TensorFlow Serving: `python -m dvae_tf.serve RUN_DIR/export`.

The paths are those of TensorFlow Serving (see `serving.application`). The page at `/` lets you try
the model in a browser, if its kind of data has a page.
"""

import sys

from dvae_tf.serving.server import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

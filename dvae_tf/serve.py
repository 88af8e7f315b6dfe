"""Serve an exported model without TensorFlow Serving: `python -m dvae_tf.serve RUN_DIR/export`.

The paths are TensorFlow Serving's (see `serving.application`). At `/` there is a page to try the
model on, where its kind of data has one.
"""

import sys

from dvae_tf.serving.server import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

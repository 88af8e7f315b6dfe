"""Export trained models as SavedModels: `python -m dvae_tf.export RUN_DIR --version 2`."""

import sys

from dvae_tf.serving.export import export, export_run, main, versions

__all__ = ["export", "export_run", "main", "versions"]

if __name__ == "__main__":
    sys.exit(main())

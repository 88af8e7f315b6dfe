"""Files for TensorBoard's embedding projector: `tensorboard --logdir DIRECTORY`."""

from pathlib import Path

import numpy as np


def write(directory: Path, latents: np.ndarray, labels: np.ndarray | None) -> None:
    """Write posterior means, and labels where they are known, into a new directory.

    Args:
        directory: must not exist yet.
        latents: posterior means, [N, L].
        labels: [N], or None.
    """
    directory.mkdir()
    np.savetxt(directory / "latents.tsv", latents, fmt="%.6g", delimiter="\t")
    lines = ["embeddings {", '  tensor_name: "posterior means"', '  tensor_path: "latents.tsv"']
    if labels is not None:
        (directory / "labels.tsv").write_text("".join(f"{v}\n" for v in labels), encoding="utf-8")
        lines.append('  metadata_path: "labels.tsv"')
    (directory / "projector_config.pbtxt").write_text(
        "\n".join([*lines, "}"]) + "\n", encoding="utf-8"
    )

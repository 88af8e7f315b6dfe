"""The page for trying a model in a browser, and the noise that it shows.

A kind of data has a page if a template has its name. For a model of images of any size the page also
shows posterior draws.
"""

from typing import Any

import jinja2
import numpy as np

from dvae_tf import corruptions, templating
from dvae_tf.serving import tensors
from dvae_tf.serving.models import Version
from dvae_tf.serving.tensors import RequestError

# Posterior draws that the page shows.
_NUM_DRAWS = 6
# Pixels of the images that the page takes from a model of any size: an answer has some 60 bytes for
# each value. Larger ones are cropped.
_MAX_PIXELS = 2**18
# Bytes of a value that the page sends, at most.
_VALUE_BYTES = 10


class Page:
    """The page of a model.

    Args:
        name: name of the model in the paths.
        max_bytes: limit for the body of a request.
    """

    def __init__(self, name: str, *, max_bytes: int):
        self._name, self._max_bytes = name, max_bytes
        self._environment = templating.environment("dvae_tf.serving", autoescape=True)

    def render(self, version: Version) -> str:
        """Return the page as HTML.

        Raises:
            RequestError: with status 404 if the version's kind of data has no page.
        """
        template = self._template(version)
        trained = version.corruption or {"name": corruptions.Gaussian.name, "level": 0.1}
        shape = version.example_spec.shape.as_list()[1:]
        return template.render(
            name=self._name,
            version=version.number,
            example_shape=shape,
            max_pixels=min(_MAX_PIXELS, self._max_bytes // (_VALUE_BYTES * shape[-1])),
            num_draws=_NUM_DRAWS if "draw" in version.signatures else 0,
            has_sample="sample" in version.signatures and None not in shape,
            noises={name: cls.label or name for name, cls in corruptions.CORRUPTIONS.items()},
            noise=trained["name"],
            level=corruptions.highest(trained["level"]),
        )

    def noise(self, version: Version, body: bytes) -> dict[str, Any]:
        """Corrupt an example: {FIELD, "noise", "level", "seed"} -> {FIELD}.

        FIELD is the field of the kind of data (`Kind.field`).

        Raises:
            RequestError: if the request is not valid, or the kind of data has no page.
        """
        self._template(version)
        given, field = tensors.parse_object(body), version.kind.field
        if set(given) != {field, "noise", "level", "seed"}:
            raise RequestError(400, f"the body must have the keys {field}, noise, level, seed")
        if not isinstance(given["seed"], int):
            raise RequestError(400, f"`seed` must be a whole number: {given['seed']!r}")
        clean = tensors.tensor(field, [given[field]], version.example_spec)
        if not np.isfinite(clean).all():
            raise RequestError(400, f"`{field}` must be finite")
        try:
            corruption = corruptions.from_name(given["noise"], given["level"], clip=True)
            noisy = corruption(clean, seed=given["seed"])
        except (ValueError, TypeError, OverflowError) as error:
            raise RequestError(400, str(error)) from error
        # Six decimals are finer than 16 bits, and a third of what JSON would take.
        return {field: np.round(noisy.numpy()[0].astype(np.float64), 6).tolist()}

    def _template(self, version: Version) -> jinja2.Template:
        try:
            return self._environment.get_template(f"{version.kind.name}.html")
        except jinja2.TemplateNotFound:
            raise RequestError(
                404,
                f"there is no page for data of kind {version.kind.name}: send requests to "
                f"/v1/models/{self._name}:predict",
            ) from None

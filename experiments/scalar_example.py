"""The smallest example in which three bounds differ, in closed form: for docs/bounds.md and tests.

    python -m experiments.scalar_example          # draws docs/images/posterior_variance.png

A signal x ~ N(0, s^2) is seen as x~ = x + N(0, sigma^2). Every encoder and decoder is linear and
Gaussian, the prior is N(0, 1), and bounds are averaged over x and x~.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.parser import Parser

ROOT = Path(__file__).resolve().parents[1]


def _log_density(variance, squared_error):
    """E log N(x; m, variance), in nats, of a mean m that misses x by this mean squared error."""
    return -0.5 * (np.log(2 * np.pi * variance) + squared_error / variance)


def _kl(second_moment, v):
    """E KL(N(m, v) || N(0, 1)), in nats, with E m^2 = second_moment."""
    return 0.5 * (second_moment + v - 1 - np.log(v))


@dataclass(frozen=True)
class ScalarExample:
    """Bounds of linear encoders and decoders, in nats, and what they are bounds of.

    Args:
        s: standard deviation of the signal.
        sigma: standard deviation of the noise.
    """

    s: float
    sigma: float

    # ---- what is exact ----

    @property
    def noisy_variance(self) -> float:
        """The variance of x~."""
        return self.s**2 + self.sigma**2

    @property
    def wiener_gain(self) -> float:
        """E[x|x~] is this times x~."""
        return self.s**2 / self.noisy_variance

    @property
    def signal_variance(self) -> float:
        """Var[x|x~]: D, the least mean squared error."""
        return self.s**2 * self.sigma**2 / self.noisy_variance

    @property
    def log_clean(self) -> float:
        """E log p(x)."""
        return float(_log_density(self.s**2, self.s**2))

    @property
    def log_noisy(self) -> float:
        """E log p(x~)."""
        return float(_log_density(self.noisy_variance, self.noisy_variance))

    @property
    def log_conditional(self) -> float:
        """E log p(x|x~)."""
        return float(_log_density(self.signal_variance, self.signal_variance))

    # ---- bounds ----

    def l_dvae(self, a, v, b, tau):
        """L_dvae with q(z|x~) = N(a x~, v) and p(x|z) = N(b z, tau^2)."""
        error = self.s**2 * (1 - 2 * a * b) + b**2 * (a**2 * self.noisy_variance + v)
        return _log_density(tau**2, error) - _kl(a**2 * self.noisy_variance, v)

    def l_cvae(self, a, v, b, tau):
        """L_cvae of the same model: q~(z|x) = N(a x, v + a^2 sigma^2)."""
        error = self.s**2 * (1 - a * b) ** 2 + b**2 * (a**2 * self.sigma**2 + v)
        return _log_density(tau**2, error) - _kl((a * self.s) ** 2, v + (a * self.sigma) ** 2)

    def observation_bound(self, a, v, b):
        """The observation bound with q(z|x~) = N(a x~, v), s(z) = b z and p(x~|s) = N(s, sigma^2)."""
        error = self.noisy_variance * (1 - a * b) ** 2 + b**2 * v
        return _log_density(self.sigma**2, error) - _kl(a**2 * self.noisy_variance, v)

    def conditional_bound(self, g, h, v, b, c, tau):
        """The conditional bound, on log p(x|x~).

        The prior p(z|x~) is N(0, 1), q(z|x, x~) = N(g x + h x~, v), p(x|z, x~) = N(b z + c x~, tau^2).
        """
        covariance = np.array([[self.s**2, self.s**2], [self.s**2, self.noisy_variance]])
        missed, mean = np.array([1 - b * g, -c - b * h]), np.array([g, h])
        error = missed @ covariance @ missed + b**2 * v
        return _log_density(tau**2, error) - _kl(mean @ covariance @ mean, v)

    # ---- what maximises them ----

    def best_of_variance(self, v: float) -> tuple[float, float, float, float]:
        """Return (a, v, b, tau) that maximise L_dvae among encoders with v / E z^2 = `v`, in (0, 1].

        The best of these has E z^2 = 1, and p(x|z) is the regression of x on z. With D and
        G = s^2 - D its bound is -log(2 pi e (D + v G)) / 2 + log(v) / 2.
        """
        a = np.sqrt((1 - v) / self.noisy_variance)
        return (
            a,
            v,
            a * self.s**2,
            np.sqrt(self.signal_variance + v * (self.s**2 - self.signal_variance)),
        )

    @property
    def best_observed(self) -> tuple[float, float, float]:
        """(a, v, b) that maximise the observation bound: the exact posterior."""
        return self.s / self.noisy_variance, self.sigma**2 / self.noisy_variance, self.s


def shared_variance(count: int, ratio: float) -> float:
    """Return the variance v that maximises L_dvae where pixels have one common value.

    All pixels of x are one draw from N(0, s^2), their noise is independent, and p(x|z) = N(b z, tau^2)
    for each pixel. The encoder reads the mean of the noisy pixels, N(a mean, v).

    Args:
        count: number of pixels; for one it is the scalar example.
        ratio: s^2 / sigma^2.
    """
    if count == 1:
        return 1.0
    return min(1.0, 1 / (ratio * count * (count - 1)))


def draw() -> Figure:
    """Draw the posterior variance that maximises each bound against the signal-to-noise ratio."""
    ratio = np.logspace(-2, 2, 81)
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    observed = [ScalarExample(np.sqrt(r), 1.0).best_observed[1] for r in ratio]
    axes.fill_between(
        ratio, 0, 1, color="tab:blue", alpha=0.15, linewidth=0, label="$L_{cvae}$ (any variance)"
    )
    axes.plot(ratio, np.ones_like(ratio), color="tab:orange", label="$L_{dvae}$")
    axes.plot(ratio, observed, color="tab:green", label="observation bound")
    axes.set_xscale("log")
    axes.set_xlabel(r"signal-to-noise ratio $s^2 / \sigma^2$")
    axes.set_ylabel("variance $v$ of the best $q(z|\\tilde x)$")
    axes.set_xlim(ratio[0], ratio[-1])
    axes.set_ylim(0, 1.05)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Draw the figure; return 0, or 2 after a user's error."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", type=Path, help="where it goes [default: the repository's docs]")
    images = (parser.parse_args(arguments).docs or ROOT / "docs") / "images"
    try:
        images.mkdir(parents=True, exist_ok=True)
        draw().savefig(images / "posterior_variance.png", dpi=200)
    except OSError as error:
        parser.error(f"--docs must be a writable directory. Received: {error}. Choose another.")
    print(f"Wrote {images / 'posterior_variance.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

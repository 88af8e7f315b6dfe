"""A denoising VAE in which every term is Gaussian, in NumPy: the oracle of tests and docs/bounds.md.

p(z) = N(0, I),  p(x|z) = N(W z + b, s^2 I),  p(x~|x) = N(x, sigma^2 I),
q(z|x~) = N(A x~ + c, diag(d^2)),  hence  q~(z|x) = N(A x + c, diag(d^2) + sigma^2 A A^T).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import multivariate_normal


@dataclass(frozen=True)
class LinearGaussian:
    W: np.ndarray  # [D, L]
    b: np.ndarray  # [D]
    s: float
    A: np.ndarray  # [L, D]
    c: np.ndarray  # [L]
    d: np.ndarray  # [L]
    sigma: float

    @classmethod
    def make(cls, *, seed: int = 0, size: int = 4, latent_dim: int = 2, sigma: float = 0.5):
        r = np.random.default_rng(seed)
        W = r.normal(size=(size, latent_dim))
        s = 0.7
        # Near the true posterior, so that the bounds are neither equal nor far apart.
        precision = np.eye(latent_dim) + W.T @ W / s**2
        A = np.linalg.solve(precision, W.T) / s**2 + 0.05 * r.normal(size=(latent_dim, size))
        return cls(
            W=W,
            b=0.3 * r.normal(size=size),
            s=s,
            A=A,
            c=0.1 * r.normal(size=latent_dim),
            # Wide enough for importance weights of finite variance.
            d=np.sqrt(np.diag(np.linalg.inv(precision))) * (1.0 + 0.2 * r.random(latent_dim)),
            sigma=sigma,
        )

    @property
    def evidence_covariance(self) -> np.ndarray:
        """The covariance of p(x)."""
        return self.W @ self.W.T + self.s**2 * np.eye(len(self.b))

    def log_evidence(self, x: np.ndarray) -> np.ndarray:
        """log p(x), [B]."""
        return multivariate_normal(self.b, self.evidence_covariance).logpdf(x)

    def _expected_log_joint(self, mean: np.ndarray, covariance: np.ndarray, x: np.ndarray):
        """E_{z ~ N(mean, covariance)} [log p(x|z) + log p(z)], [B]."""
        size, latent_dim = self.W.shape
        residual = x - mean @ self.W.T - self.b
        log_likelihood = -0.5 * (
            size * np.log(2 * np.pi * self.s**2)
            + (np.sum(residual**2, -1) + np.trace(self.W @ covariance @ self.W.T)) / self.s**2
        )
        log_prior = -0.5 * (
            latent_dim * np.log(2 * np.pi) + np.sum(mean**2, -1) + np.trace(covariance)
        )
        return log_likelihood + log_prior

    @staticmethod
    def _entropy(covariance: np.ndarray) -> float:
        return 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]

    @property
    def averaged_covariance(self) -> np.ndarray:
        """The covariance of q~(z|x)."""
        return np.diag(self.d**2) + self.sigma**2 * self.A @ self.A.T

    def l_cvae(self, x: np.ndarray) -> np.ndarray:
        """E_{q~}[log p(x, z) - log q~(z|x)], [B]."""
        covariance = self.averaged_covariance
        return self._expected_log_joint(x @ self.A.T + self.c, covariance, x) + self._entropy(
            covariance
        )

    def l_dvae(self, x: np.ndarray) -> np.ndarray:
        """E_{p(x~|x)} E_{q(z|x~)}[log p(x, z) - log q(z|x~)], [B]."""
        # z is marginally drawn from q~; the entropy is that of one q(z|x~).
        joint = self._expected_log_joint(x @ self.A.T + self.c, self.averaged_covariance, x)
        return joint + self._entropy(np.diag(self.d**2))

    def mutual_information(self) -> float:
        """I(x~; z | x), from the joint covariance of x~ and z given x: the same for all x."""
        if not self.sigma:
            return 0.0
        noise = self.sigma**2 * np.eye(len(self.b))
        latent = self.averaged_covariance
        joint = np.block([[noise, noise @ self.A.T], [self.A @ noise, latent]])
        logs = [np.linalg.slogdet(covariance)[1] for covariance in (noise, latent, joint)]
        return 0.5 * (logs[0] + logs[1] - logs[2])

    def l_dvae_gradients(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Derivatives of the batch mean of L_dvae, by hand, one entry for each parameter."""
        batch, latent_dim = len(x), self.W.shape[1]
        mean = x @ self.A.T + self.c  # [B, L]
        residual = x - mean @ self.W.T - self.b  # [B, D]
        noise = self.sigma**2
        covariance = self.averaged_covariance
        d_mean = residual @ self.W / self.s**2 - mean  # [B, L]
        # dL/dCov = -(W^T W / s^2 + I) / 2, Cov = diag(d^2) + sigma^2 A A^T.
        curvature = self.W.T @ self.W / self.s**2 + np.eye(latent_dim)
        return {
            "W": residual.T @ mean / batch / self.s**2 - self.W @ covariance / self.s**2,
            "b": residual.mean(0) / self.s**2,
            "A": d_mean.T @ x / batch - noise * curvature @ self.A,
            "c": d_mean.mean(0),
            "d": -np.diag(curvature) * self.d + 1 / self.d,
        }

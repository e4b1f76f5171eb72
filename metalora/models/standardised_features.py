"""Features of an image, standardised with statistics of the training images'."""

import torch
from torch import Tensor, nn

MIN_STD = 1e-3  # of a feature
MAX_SCORE = 10.0  # of a standardised feature


class StandardisedFeatures(nn.Module):
    """What reads the extractor's features: their mean and standard deviation, which are saved with it.

    Attributes:
        standardised: whether the statistics were taken, as they are before training.
    """

    feature_mean: Tensor
    feature_std: Tensor
    standardised: Tensor

    def register_statistics(self, features: int) -> None:
        """Add statistics of so many features that leave these as they are."""
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_std", torch.ones(features))
        self.register_buffer("standardised", torch.tensor(False))

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Take mean and standard deviation of the training images' features (N, F)."""
        std, mean = torch.std_mean(features.to(self.feature_mean), dim=0, correction=0)
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std.clamp(min=MIN_STD))
        self.standardised.fill_(True)

    def scores(self, features: Tensor) -> Tensor:
        """Return features (N, F), standardised."""
        scores = (features.to(self.feature_mean) - self.feature_mean) / self.feature_std
        # A feature that hardly varied in training must not decide alone where it does vary.
        return scores.clamp(-MAX_SCORE, MAX_SCORE)

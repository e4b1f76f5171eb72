"""BatchNorm over the batch of all processes, as `nn.SyncBatchNorm`, which runs on GPUs only."""

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from metalora.util.distributed import exchange


class SharedBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that trains with mean and variance of the images of all processes together.

    Each process must scale its loss by its fraction of the batch, and gradients must be added up over processes.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        if not self.training:
            return super().forward(input)
        count = input.numel() // input.shape[1]
        # In float64, since squares of the means are about to be subtracted again.
        variance, mean = (part.double() for part in torch.var_mean(input.float(), dim=(0, 2, 3), correction=0))
        sums = torch.cat([count * mean, count * (variance + mean.square()), mean.new_tensor([count])])
        total = _Sum.apply(sums)
        mean, square = (total[:-1] / total[-1]).chunk(2)
        variance = square - mean.square()
        self._follow(mean.detach(), variance.detach(), total[-1].detach())
        scale = self.weight * (variance + self.eps).rsqrt().to(self.weight)
        shift = self.bias - mean.to(self.weight) * scale
        return torch.addcmul(shift[:, None, None], input.float(), scale[:, None, None]).to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics, as `nn.BatchNorm2d` does."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var), self.momentum)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes, whose gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        exchange(torch.distributed.all_reduce, total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def share_batchnorm(net: nn.Module) -> None:
    """Replace every BatchNorm2d of a network by one that is shared by all processes."""
    for name, module in list(net.named_modules()):
        if type(module) is nn.BatchNorm2d:
            shared = SharedBatchNorm2d(module.num_features, module.eps, module.momentum)
            shared.load_state_dict(module.state_dict())
            net.set_submodule(name, shared.to(module.weight.device))

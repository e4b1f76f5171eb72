"""One adapter per image, in one batch: no loop over adapters, no copies of the network.

python examples/per_sample_batch.py
"""

import time

import torch

import metalora


def main(count: int = 32, size: int = 32) -> dict[str, float]:
    """Embed `count` images, each with its own adapter, in one batch and one by one; return the seconds of each."""
    model = metalora.load("resnet20/metalora-tr")
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cores = model.generate(images)  # one sample of cores per image
        model(images, cores=cores)  # warm up

        started = time.perf_counter()
        together = model(images, cores=cores)
        seconds = {"one batch": time.perf_counter() - started}

        started = time.perf_counter()
        one_by_one = torch.cat([model(images[i : i + 1], cores=cores[i]) for i in range(count)])
        seconds["one by one"] = time.perf_counter() - started

        folded = model.fold(cores[0])  # the same for one image, as an ordinary network
        assert torch.allclose(folded(images[:1]), together[:1], atol=1e-3)
    assert torch.allclose(together, one_by_one, atol=1e-3)

    # Cores are tensors by layer: mix them as you like, and hand them out by image.
    mean, wanted = cores.mean(), torch.randperm(count)
    model(images, cores=mean)  # one core for all
    model(images, cores=cores[wanted])  # the cores of other images
    for name, value in seconds.items():
        print(f"{name}: {1000 * value:.0f} ms for {count} images")
    return seconds


if __name__ == "__main__":
    main()

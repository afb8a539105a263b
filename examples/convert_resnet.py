"""Convert a torchvision ResNet, see what became of every layer, and count both networks."""

import torch
from torchvision.models import resnet18

import xnets


def main() -> None:
    dense = resnet18()
    sparse, report = xnets.convert(dense, compression=4)
    print(report)

    image = torch.randn(1, 3, 224, 224)
    before, after = xnets.count(dense, image), xnets.count(sparse, image)
    print(f"\nparameters {before.params:>13,} -> {after.params:>11,}")
    print(f"MACs       {before.macs:>13,} -> {after.macs:>11,}")
    print(f"bytes      {before.bytes:>13,} -> {after.bytes:>11,}")

    # An ordinary module: train it with any loop and any optimizer.
    optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1, momentum=0.9)
    loss = sparse(torch.randn(4, 3, 64, 64)).square().mean()
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    main()

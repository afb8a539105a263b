"""From a trained dense network to a smaller one: keep each output's strongest inputs, train on."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import xnets


def fit(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(steps):
        batch = torch.randint(len(x), (128,))
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    order = torch.randperm(len(digits.data))
    x = torch.tensor(digits.data, dtype=torch.float32)[order] / 16
    y = torch.tensor(digits.target)[order]
    (x, y), (x_test, y_test) = (x[:1400], y[:1400]), (x[1400:], y[1400:])

    dense = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    fit(dense, x, y, 300)
    print(f"dense:                 {accuracy(dense, x_test, y_test):.3f}")
    for init in ("copy", "magnitude"):
        sparse, report = xnets.convert(dense, compression=16, init=init)
        cut = accuracy(sparse, x_test, y_test)
        fit(sparse, x, y, 300)
        print(
            f"C = 16, {init:<9}:     {cut:.3f}, trained on: {accuracy(sparse, x_test, y_test):.3f}"
            f"  ({report.params_before:,} -> {report.params_after:,} parameters)"
        )


if __name__ == "__main__":
    main()

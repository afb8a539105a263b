"""Schedules: the learning rate of every step, against the numbers that define them."""

import math

import pytest
import torch

from xnets.train import get_recipe
from xnets.train._schedule import make_schedule


def rates(recipe, steps_per_epoch):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.lr)
    total = recipe.epochs * steps_per_epoch
    schedule = make_schedule(recipe, optimizer, total)
    seen = []
    for _ in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cifar100-X-DenseNet-BC-2-40-24", {0: 0.1, 150: 0.01, 225: 0.001}),
        ("imagenet-ResNet-50", {0: 0.1, 30: 0.01, 60: 0.001}),
        ("cifar10-VGG16", {30 * k: max(0.05 * 0.5**k, 0.0005) for k in range(10)}),
        ("imagenet-MobileNet-0.5", {15 * k: max(0.1 * 0.316**k, 5e-5) for k in range(10)}),
    ],
)
def test_the_papers_schedules_epoch_by_epoch(name, changes):
    recipe = get_recipe(name)
    expected, now = [], 0.0
    for epoch in range(recipe.epochs):
        now = changes.get(epoch, now)
        expected += [now, now]
    assert rates(recipe, 2) == pytest.approx(expected, rel=1e-12)


def test_milestones_move_with_the_number_of_epochs():
    recipe = get_recipe("cifar10-DenseNet-BC-40-24", epochs=8)
    assert rates(recipe, 1) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_cosine_rises_in_a_line_and_falls_to_the_floor():
    recipe = get_recipe("cifar10-modern", epochs=10, lr=1.0, warmup=0.2, min_lr=0.1)
    seen = rates(recipe, 10)
    assert seen[:20] == pytest.approx([(k + 1) / 21 for k in range(20)])
    fall = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 80)) / 2 for k in range(80)]
    assert seen[20:] == pytest.approx(fall, rel=1e-6)


def test_a_very_short_cosine_has_no_rise():
    seen = rates(get_recipe("cifar10-modern", epochs=1, lr=1.0), 4)
    assert seen == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 40])
def test_one_cycle_of_any_length(steps):
    recipe = get_recipe("digits", epochs=1, lr=1.0, warmup=0.25)
    seen = rates(recipe, steps)
    assert len(seen) == steps
    assert all(0 < rate <= 1 + 1e-9 for rate in seen)
    assert max(seen) > 0.8 or steps < 3

"""Augmentation: every outcome is one of the allowed, and all of them occur."""

import torch

from xnets.train.data._augment import center_crop, random_crop, random_flip


def test_flip_mirrors_about_half():
    images = torch.arange(200 * 2 * 3 * 4.0).reshape(200, 2, 3, 4)
    out = random_flip(images, torch.Generator().manual_seed(0))
    same = (out == images).flatten(1).all(dim=1)
    mirrored = (out == images.flip(3)).flatten(1).all(dim=1)
    assert (same ^ mirrored).all()
    assert 60 < same.sum() < 140


def test_shift_moves_whole_images_and_fills_with_zeros():
    images = torch.arange(1, 1 + 400 * 2 * 4 * 5).reshape(400, 2, 4, 5).to(torch.uint8)
    out = random_crop(images, (4, 5), torch.Generator().manual_seed(0), padding=2)
    assert out.shape == images.shape
    assert out.dtype == torch.uint8
    seen = set()
    padded = torch.nn.functional.pad(images, [2] * 4)
    for before, after in zip(padded, out, strict=True):
        places = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if torch.equal(before[:, dy : dy + 4, dx : dx + 5], after)
        ]
        assert places
        seen.update(places)
    assert len(seen) == 25


def test_the_generator_decides():
    images = torch.rand(50, 1, 6, 6)
    one, two = (
        random_crop(images, (6, 6), torch.Generator().manual_seed(5), padding=1) for _ in range(2)
    )
    assert torch.equal(one, two)


def test_the_mirror_image_of_the_border_can_come_in():
    images = torch.arange(1, 1 + 400 * 4 * 5).reshape(400, 1, 4, 5).remainder(251).to(torch.uint8)
    out = random_crop(images, (4, 5), torch.Generator().manual_seed(0), padding=2, fill="reflect")
    assert out.dtype == torch.uint8
    padded = torch.nn.functional.pad(images.float(), [2] * 4, mode="reflect").to(torch.uint8)
    seen = set()
    for before, after in zip(padded, out, strict=True):
        places = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if torch.equal(before[:, dy : dy + 4, dx : dx + 5], after)
        ]
        assert places
        seen.update(places)
    assert len(seen) == 25


def test_a_smaller_window_is_cut_at_every_place():
    image = torch.arange(30).reshape(1, 1, 5, 6)
    out = random_crop(image.expand(300, 1, 5, 6), (4, 4), torch.Generator().manual_seed(0))
    corners = set(out[:, 0, 0, 0].tolist())
    assert corners == {0, 1, 2, 6, 7, 8}
    assert torch.equal(center_crop(image, (3, 4)), image[:, :, 1:4, 1:5])

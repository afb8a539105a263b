"""The promises of the two recipes, on the real data."""

import pytest

from xnets.train import evaluate, get_recipe, train
from xnets.train.data._fashion import DEBIAN_FASHION_MNIST


@pytest.fixture(autouse=True)
def one_thread():
    """These may use all threads."""


@pytest.mark.slow
def test_digits_reach_97_percent(tmp_path):
    result = train(get_recipe("digits"), out=tmp_path, quiet=True)
    assert result.test_accuracy >= 0.97
    assert result.dense.params > 3.5 * result.size.params
    assert evaluate(tmp_path) == result.test_accuracy


@pytest.mark.slow
@pytest.mark.skipif(
    not DEBIAN_FASHION_MNIST.is_dir(), reason="needs `apt install dataset-fashion-mnist`"
)
def test_fashion_mnist_reaches_91_percent_in_10_epochs(tmp_path):
    recipe = get_recipe("fashion-mnist")
    assert recipe.epochs <= 10
    assert recipe.compression == 4
    result = train(recipe, out=tmp_path, quiet=True)
    assert result.test_accuracy >= 0.91
    assert evaluate(tmp_path) == result.test_accuracy

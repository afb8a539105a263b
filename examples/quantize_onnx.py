"""Train a small expander network, export it gathered, quantise it to int8, and compare accuracies.

`python quantize_onnx.py` uses the digits that come with scikit-learn; `python quantize_onnx.py RUN`
a run folder of `xnets train`. Needs `pip install 'xnets[onnx]'`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import xnets
from xnets.train import get_recipe, load_checkpoint, load_dataset, train


class Calibration(CalibrationDataReader):
    """A few hundred training images, from which onnxruntime takes each tensor's range."""

    def __init__(self, images: np.ndarray, name: str) -> None:
        self.batches = iter([{name: batch} for batch in np.split(images, len(images) // 16)])

    def get_next(self) -> dict | None:  # noqa: D102
        return next(self.batches, None)


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = 0
    for start in range(0, len(images), 250):
        logits = session.run(None, {name: images[start : start + 250]})[0]
        right += int((logits.argmax(1) == labels[start : start + 250]).sum())
    return right / len(images)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", type=Path)
    run = parser.parse_args().run
    if run is None:
        run = train(get_recipe("digits", compression=4, epochs=15), out="run").folder
    checkpoint = load_checkpoint(run)
    data = load_dataset(checkpoint.recipe.dataset)
    images, labels = data.normalize(data.test_images), data.test_labels.numpy()
    calibration = Calibration(data.normalize(data.train_images[:512]).numpy(), "x")

    floats, prepared, int8 = (Path(f"{n}.onnx") for n in ("floats", "prepared", "int8"))
    xnets.export.to_onnx(checkpoint.model, images[:1], floats, lowering="gather")
    quant_pre_process(floats, prepared)
    quantize_static(
        prepared,
        int8,
        calibration,
        quant_format=QuantFormat.QDQ,
        per_channel=True,  # one scale an output channel
    )
    result = {
        "images": len(images),
        "floats": accuracy(floats, images.numpy(), labels),
        "int8": accuracy(int8, images.numpy(), labels),
        "bytes": {path.stem: path.stat().st_size for path in (floats, int8)},
    }
    print(json.dumps(result, indent=2))
    assert result["int8"] > result["floats"] - 0.05


if __name__ == "__main__":
    main()

"""Models for other runtimes: ONNX files, torch.export programs, and torch's own layers."""

from xnets.export._lower import lower as lower
from xnets.export._onnx import to_onnx as to_onnx
from xnets.export._program import to_program as to_program

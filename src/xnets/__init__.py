"""xnets: deep expander networks for PyTorch."""

from importlib.metadata import version as _version

from xnets import graphs as graphs
from xnets import nn as nn
from xnets import ops as ops

__version__ = _version("xnets")

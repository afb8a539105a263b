"""xnets: deep expander networks for PyTorch.

Sparse layers whose connections are expander graphs: fixed before training, provably well connected.
"""

from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from xnets import export as export
from xnets import graphs as graphs
from xnets import nn as nn
from xnets import ops as ops
from xnets.connectivity import Connectivity as Connectivity
from xnets.connectivity import connectivity as connectivity
from xnets.convert import ConversionReport as ConversionReport
from xnets.convert import convert as convert
from xnets.count import Count as Count
from xnets.count import count as count
from xnets.files import load as load
from xnets.files import read_metadata as read_metadata
from xnets.files import save as save
from xnets.import_reference import ImportReport as ImportReport
from xnets.import_reference import import_reference as import_reference
from xnets.inference import OptimizedModel as OptimizedModel
from xnets.inference import optimize as optimize
from xnets.models import create_model as create_model
from xnets.models import list_models as list_models

try:
    __version__ = _version("xnets")
except _PackageNotFoundError:  # a source tree on PYTHONPATH, as on a machine that only measures
    __version__ = "0+source"

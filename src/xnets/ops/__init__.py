"""Expander linear maps and convolutions on index tensors, and the backends that run them."""

from xnets.ops._call import Call as Call
from xnets.ops._dispatch import Backend as Backend
from xnets.ops._dispatch import check_backend as check_backend
from xnets.ops._dispatch import choose as choose
from xnets.ops._dispatch import explain as explain
from xnets.ops._dispatch import list_backends as list_backends
from xnets.ops._dispatch import run as run
from xnets.ops._functional import expander_conv as expander_conv
from xnets.ops._functional import expander_linear as expander_linear
from xnets.ops._gather import gathered as gathered
from xnets.ops._masked import dense_weight as dense_weight
from xnets.ops._pattern import Pattern as Pattern
from xnets.ops._pattern import edge_positions as edge_positions
from xnets.ops._pattern import find_components as find_components
from xnets.ops._pattern import make_pattern as make_pattern

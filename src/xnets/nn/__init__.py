"""Expander layers: torch's layers with their weights on the edges of a graph."""

from xnets.nn import init as init
from xnets.nn._base import ExpanderLayer as ExpanderLayer
from xnets.nn._conv import ExpanderConv1d as ExpanderConv1d
from xnets.nn._conv import ExpanderConv2d as ExpanderConv2d
from xnets.nn._conv import ExpanderConv3d as ExpanderConv3d
from xnets.nn._depthwise import DepthwiseConv2d as DepthwiseConv2d
from xnets.nn._linear import ExpanderLinear as ExpanderLinear

"""Models by name. Each file defines one family of dense networks; `create_model` thins them."""

from xnets.models import convnet as convnet
from xnets.models import mlp as mlp
from xnets.models import mobilenet as mobilenet
from xnets.models._registry import create_model as create_model
from xnets.models._registry import list_models as list_models
from xnets.models._registry import model_arguments as model_arguments
from xnets.models._registry import register_model as register_model

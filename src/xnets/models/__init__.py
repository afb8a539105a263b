"""Models by name. Each file defines one family of dense networks; `create_model` thins them."""

from xnets.models import alexnet as alexnet
from xnets.models import convnet as convnet
from xnets.models import densenet as densenet
from xnets.models import mlp as mlp
from xnets.models import mobilenet as mobilenet
from xnets.models import resnet as resnet
from xnets.models import vgg as vgg
from xnets.models._by_name import build_model as build_model
from xnets.models._by_name import full_name as full_name
from xnets.models._by_name import input_size as input_size
from xnets.models._by_name import read_size as read_size
from xnets.models._names import ModelName as ModelName
from xnets.models._names import parse_name as parse_name
from xnets.models._plan import Plan as Plan
from xnets.models._registry import create_model as create_model
from xnets.models._registry import list_models as list_models
from xnets.models._registry import model_arguments as model_arguments
from xnets.models._registry import register_model as register_model

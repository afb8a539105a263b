"""Data sets, recipes, training and evaluation. Lightning is imported when training starts."""

from xnets.train._checkpoint import Checkpoint as Checkpoint
from xnets.train._checkpoint import load_checkpoint as load_checkpoint
from xnets.train._errors import DivergedError as DivergedError
from xnets.train._errors import Interrupted as Interrupted
from xnets.train._evaluate import evaluate as evaluate
from xnets.train._recipe import Recipe as Recipe
from xnets.train._result import Result as Result
from xnets.train._result import Size as Size
from xnets.train.data import Dataset as Dataset
from xnets.train.data import FolderDataset as FolderDataset
from xnets.train.data import list_datasets as list_datasets
from xnets.train.data import load_dataset as load_dataset
from xnets.train.loop import train as train
from xnets.train.recipes import get_recipe as get_recipe
from xnets.train.recipes import list_recipes as list_recipes
from xnets.train.recipes import register_recipe as register_recipe

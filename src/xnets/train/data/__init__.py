"""The data sets: small ones whole on the device, folders of images through a loader."""

from xnets.train.data._batches import Augmentation as Augmentation
from xnets.train.data._batches import Share as Share
from xnets.train.data._dataset import Dataset as Dataset
from xnets.train.data._folder import FolderDataset as FolderDataset
from xnets.train.data._registry import list_datasets as list_datasets
from xnets.train.data._registry import load_dataset as load_dataset

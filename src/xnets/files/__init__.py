"""Files to share: safetensors with the graphs, never unpickled."""

from xnets.files._load import load as load
from xnets.files._load import read_metadata as read_metadata
from xnets.files._save import save as save

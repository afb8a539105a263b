"""The binding of csrc/, which the tests of the library and of its programs share."""

import importlib.util
from pathlib import Path

CSRC = Path(__file__).parents[2] / "csrc"
spec = importlib.util.spec_from_file_location("csrc_binding", CSRC / "binding.py")
binding = importlib.util.module_from_spec(spec)
spec.loader.exec_module(binding)

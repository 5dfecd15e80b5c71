"""What runtimes are called: without PyTorch, so that a command line can list them at once."""

from typing import Literal, get_args

RuntimeName = Literal[
    "auto",
    "eager",
    "cpu",
    "openvino",
    "openvino-int8",
    "compiled",
    "cuda-graphs",
    "cuda-graphs-compiled",
    "cuda-graphs-fp8",
]
RUNTIME_NAMES: tuple[RuntimeName, ...] = get_args(RuntimeName)

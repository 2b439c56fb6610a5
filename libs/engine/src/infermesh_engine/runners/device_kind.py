"""The kinds of device, in a module that imports nothing: short-lived processes ask for them, too."""

from typing import Literal

DeviceKind = Literal["cpu", "xpu", "cuda"]

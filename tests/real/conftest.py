"""Before transformers is first imported, which imports torchvision where it is installed."""

import contextlib

with contextlib.suppress(ModuleNotFoundError):  # torch: the tests here are then skipped
    import tests.helpers.torchvision_operators  # noqa: F401

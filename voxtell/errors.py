"""What can go wrong in the engine, one class each; `retry` says whether trying again makes sense.

`final`: the same call fails again. `later`: it may work when memory or a download is there. `usage`: the caller's
words are off.
"""

from typing import ClassVar, Literal

Retry = Literal["final", "later", "usage"]


class VoxTellError(Exception):
    """The engine could not do what it was asked."""

    retry: ClassVar[Retry] = "final"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class ModelError(VoxTellError):
    """The model cannot be loaded: its files are missing, truncated, of other shapes, or not what they claim."""


class PromptError(VoxTellError):
    """The prompts cannot be turned into embeddings."""

    retry: ClassVar[Retry] = "usage"


class ImageError(VoxTellError):
    """The image array is not a float32 volume (S, A, R) of finite numbers."""

    retry: ClassVar[Retry] = "usage"


class OutOfMemoryError(VoxTellError):
    """There is too little free memory for this volume; try again when other work on the device has ended."""

    retry: ClassVar[Retry] = "later"


class NumbersError(VoxTellError):
    """The network gave values that are no finite numbers; the weights may need more range: set precision to float32."""


class CancelledError(VoxTellError):
    """The caller cancelled the segmentation."""


class FileError(VoxTellError):
    """An image file cannot be read, or two results would have the same name."""

    retry: ClassVar[Retry] = "usage"


class ImageWarning(UserWarning):
    """The image is not of the kind that the model was trained on, or nothing at all was found in it.

    Its masks mean little then, empty ones nothing.
    """


class FetchError(VoxTellError):
    """The published weights cannot be fetched now."""

    retry: ClassVar[Retry] = "later"

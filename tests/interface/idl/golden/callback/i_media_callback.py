"""The contract IMediaCallback. Written from IMediaCallback.idl by `binderkit idl to-python`: change that file, not
this one.
"""

from __future__ import annotations

from binderkit.interface import Int32, Interface, method, oneway

from ..media_types import Frame


class IMedia(Interface, descriptor="ohos.media.IMedia"):
    """Declared elsewhere; its methods are not known here."""


# In the IDL, without meaning here: callback.
class IMediaCallback(Interface, descriptor="ohos.media.callback.IMediaCallback"):
    """Told about frames."""

    @method
    @oneway
    def on_frame(self, frame: Frame, source: IMedia) -> None: ...

    @method
    @oneway
    def on_end(self, reason: Int32) -> None: ...

"""The contract IPeer. Written from IPeer.idl by `binderkit idl to-python`: change that file, not this one."""

from __future__ import annotations

from binderkit.interface import Interface, method


class IPeer(Interface, descriptor="ohos.media.IPeer"):
    """ohos.media.IPeer."""

    @method
    def meet(self, media: IMedia) -> None: ...

    @method
    def next(self) -> IPeer: ...


# At the end, because that file may need this one.
from .i_media import IMedia  # noqa: E402

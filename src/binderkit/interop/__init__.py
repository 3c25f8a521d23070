"""Speaking to programs of Android's Binder world: their parcels, and their way to find services. Pure, no I/O."""

from __future__ import annotations

from binderkit.interop.android_parcel import (
    AIDL,
    AIDL2,
    AIDL3,
    AIDL4,
    AndroidParcel,
    BinderRecord,
    RequestHeader,
    Stability,
    Wire,
    layout_of,
)
from binderkit.interop.service_manager import (
    INTERFACE,
    AndroidServiceManager,
    Registry,
    StatusReply,
    Variant,
    variant_for,
)

__all__ = [
    "AIDL",
    "AIDL2",
    "AIDL3",
    "AIDL4",
    "INTERFACE",
    "AndroidParcel",
    "AndroidServiceManager",
    "BinderRecord",
    "Registry",
    "RequestHeader",
    "Stability",
    "StatusReply",
    "Variant",
    "Wire",
    "layout_of",
    "variant_for",
]

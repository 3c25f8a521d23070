"""What happens on a device and starts or stops abilities: times, parameters, common events, other devices.

The functions for programs; the services themselves are run by the device's daemon.
"""

from binderkit.samgr.events.client import (
    Subscription,
    get_parameter,
    publish_common_event,
    set_parameter,
    subscribe_common_event,
    watch_parameter,
)
from binderkit.samgr.events.common import CommonEventService
from binderkit.samgr.events.contracts import (
    COMMON_EVENT_ID,
    COMMON_EVENT_NAME,
    PARAMETERS_ID,
    PARAMETERS_NAME,
    CommonEvent,
    EventFilter,
    ICommonEvents,
    ICommonEventSubscriber,
    IParameters,
    IParameterWatcher,
)
from binderkit.samgr.events.devices import DeviceEvents
from binderkit.samgr.events.parameters import ParameterService
from binderkit.samgr.events.timed import TimedEvents

__all__ = [
    "COMMON_EVENT_ID",
    "COMMON_EVENT_NAME",
    "PARAMETERS_ID",
    "PARAMETERS_NAME",
    "CommonEvent",
    "CommonEventService",
    "DeviceEvents",
    "EventFilter",
    "ICommonEventSubscriber",
    "ICommonEvents",
    "IParameterWatcher",
    "IParameters",
    "ParameterService",
    "Subscription",
    "TimedEvents",
    "get_parameter",
    "publish_common_event",
    "set_parameter",
    "subscribe_common_event",
    "watch_parameter",
]

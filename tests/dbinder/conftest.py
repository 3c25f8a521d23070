"""The leak check of softbus holds for dbinder too."""

from tests.softbus.conftest import nothing_of_softbus_is_left as nothing_of_softbus_is_left

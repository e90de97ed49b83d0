"""Home Assistant itself, without its user interface: run by its own Python, with what its `hass` command takes.

`hass` always sets up the frontend and what hangs on it (camera streams, backups, Bluetooth, 40 packages of machine
code); without it, it goes into recovery mode. Nothing else of it is changed.
"""

import sys

from homeassistant import __main__, bootstrap

bootstrap.DEFAULT_INTEGRATIONS = set()
bootstrap.CRITICAL_INTEGRATIONS = set()
sys.exit(__main__.main())

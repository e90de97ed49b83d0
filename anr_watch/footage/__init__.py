"""Footage files on disk: their names, what is inside them, where new ones go. Knows no SQL, no MQTT and no camera."""

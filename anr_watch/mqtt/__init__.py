"""MQTT: what is told to the world, and what is heard from it. Only `link.py` knows the client library."""

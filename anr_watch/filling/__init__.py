"""The jobs of one fill: what is recorded, asking the camera, placing what comes; `anr_watch.fill` has their order."""

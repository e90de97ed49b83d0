"""Sources of hints: database, recordings, MQTT. They say that something may have changed, and decide nothing."""

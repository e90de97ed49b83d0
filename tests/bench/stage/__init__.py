"""The world around the program while it is measured: cameras, kernel, broker, footage and the daemon as processes."""

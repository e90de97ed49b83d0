"""The long run: many outages on many cameras, one daemon, and whether anything of it grows."""

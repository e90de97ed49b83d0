"""Coverage as a picture: what is recorded, filled by us, still missing. Values in, texts and pictures out."""

"""anr-watch: fetches what a camera recorded while it was offline."""

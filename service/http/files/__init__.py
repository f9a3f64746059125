"""Routes for the bytes of files: downloads, and uploads, each by a sealed link."""

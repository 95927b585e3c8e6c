"""Storage: objects in a folder or a bucket, checkpoints and how often they are written, the rows of a running cell."""

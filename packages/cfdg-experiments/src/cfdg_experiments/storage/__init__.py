"""Storage: objects in a folder or a bucket, checkpoints that know their names, and how often they are written."""

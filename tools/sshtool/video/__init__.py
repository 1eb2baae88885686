"""Video files and cameras: their frames, and videos with the boxes drawn."""

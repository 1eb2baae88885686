"""sshtool: the command line around sshconvert. Gets checkpoints, converts them, runs and compares what came out."""

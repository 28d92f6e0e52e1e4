"""Starting runs: several processes on this machine, or all hosts of a TPU."""

"""One sharded step, the loop around it, and everything a run leaves behind."""

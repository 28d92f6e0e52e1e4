"""What a run keeps on disk: its folder, its checkpoints, and the ways to read them back."""

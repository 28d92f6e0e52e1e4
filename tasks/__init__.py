"""SeqIO registrations: where text comes from, what a task is called. Importing this registers all."""

from . import finetune, quickstart  # noqa: F401

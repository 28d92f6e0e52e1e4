"""SeqIO tasks: importing this package registers all of them."""

from . import finetune, quickstart  # noqa: F401

"""SeqIO tasks: importing this package registers all of them."""

from tasks import finetune, quickstart  # noqa: F401

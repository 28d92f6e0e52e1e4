"""Kinds of tokens that the decoder writes: the one word that noise, packing, losses and evaluation share."""

import enum


class TargetKind(enum.IntEnum):
    """What the encoder shows of a target token; each token is exactly one, and 0 is left to padding."""

    VISIBLE = 1  # it stands in the corrupted text, behind the token that it stands behind in the target
    MASKED = 2  # a mask or a sentinel stands for it, alone or with others
    DELETED = 3  # nothing tells of it
    REPLACED = 4  # another token stands in its place
    MOVED = 5  # it stands in the corrupted text, behind another token than in the target
    INSERTED_AROUND = 6  # visible, and a token that stands for nothing stands beside it


SEEN = (TargetKind.VISIBLE, TargetKind.MOVED, TargetKind.INSERTED_AROUND)  # they stand in the corrupted text
HIDDEN = (TargetKind.MASKED, TargetKind.REPLACED, TargetKind.DELETED)  # they have to be made up

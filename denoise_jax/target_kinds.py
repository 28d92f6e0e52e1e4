"""Kinds of target tokens by what the encoder sees of them, shared by noise, packing and evaluation."""

import enum


class TargetKind(enum.IntEnum):
    """What the corrupted text shows of a target token. Every token has exactly one kind; padding has 0."""

    IN_PLACE = 1  # it is in the corrupted text, and follows the same token as in the target
    MASKED = 2  # a mask or a sentinel takes its place, alone or with its neighbours
    DELETED = 3  # nothing takes its place
    REPLACED = 4  # a random token takes its place
    MOVED = 5  # it is in the corrupted text, but follows another token than in the target
    BESIDE_INSERTION = 6  # in place, but next to an inserted token that corresponds to nothing in the target


VISIBLE = (TargetKind.IN_PLACE, TargetKind.MOVED, TargetKind.BESIDE_INSERTION)  # can be copied from the input
HIDDEN = (TargetKind.MASKED, TargetKind.REPLACED, TargetKind.DELETED)  # must be predicted

"""LIBTPU_INIT_ARGS by TPU generation; not timed by this project, and left out by `--no-tpu-flags`."""

# (flags, source)
_ASYNC_DATA_PARALLEL = (
    (
        "--xla_tpu_enable_data_parallel_all_reduce_opt=true",
        "--xla_tpu_data_parallel_opt_different_sized_ops=true",
        "--xla_tpu_enable_async_collective_fusion=true",
        "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
        "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
        "--xla_tpu_overlap_compute_collective_tc=true",
        "--xla_enable_async_all_gather=true",
    ),
    "MaxText, configurations for v5e (16b.sh): gradients are summed while the backward pass still runs",
)
_SCOPED_VMEM = (
    ("--xla_tpu_scoped_vmem_limit_kib=98304",),
    "Levanter and MaxText, dense models on v6e and v5p: more on-chip memory for fused operations",
)
_SCOPED_VMEM_7X = (
    ("--xla_tpu_scoped_vmem_limit_kib=65536",),
    "MaxText, 7x: the chip's limit is lower",
)

TABLE = {
    "v4": (),
    "v5e": (_ASYNC_DATA_PARALLEL,),
    "v5p": (_SCOPED_VMEM,),
    "v6e": (_SCOPED_VMEM,),
    "7x": (_SCOPED_VMEM_7X,),
}


def libtpu_init_args(generation: str) -> str:
    """The value of LIBTPU_INIT_ARGS for a generation, such as "v5e"."""
    return " ".join(flag for flags, _ in TABLE[generation] for flag in flags)

"""A plan as text."""

from collections.abc import Sequence

from denoise_jax.planning.plan import Plan

_GIB = 2**30


def describe(plan: Plan, *, data_rate: float | None = None) -> str:
    """Lines for a terminal.

    Args:
      data_rate: target tokens per second that the data pipeline was measured to deliver on one host.
    """
    mesh = " × ".join(f"{axis} {size}" for axis, size in plan.mesh.items())
    slices = f" × {plan.slices} slices" if plan.slices > 1 else ""
    lines = [
        f"{plan.name} on {plan.topology}{slices}: {plan.chips} chips, mesh {mesh}, "
        f"{plan.rows_per_chip:g} rows per chip, {plan.parameters:,} parameters",
        _memory(plan),
    ]
    if plan.fits:
        lines += [*_times(plan), *_collectives(plan), *_run(plan, data_rate)]
        lines += [f"warning        {warning}" for warning in plan.warnings]
        lines += [
            "",
            "Estimates by the compiler: good for comparing plans for one kind of chip. Nothing was run.",
        ]
    return "\n".join(lines)


def table(plans: Sequence[Plan], labels: Sequence[str]) -> str:
    """One line per plan, as Markdown."""
    rows = [
        "| plan | topology | memory GiB | step ms | MFU | exposed | tokens/s and chip |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for label, plan in zip(labels, plans, strict=True):
        memory = f"{sum(plan.memory.values()) / _GIB:.1f} of {plan.memory_limit / _GIB:.0f}"
        if not plan.fits:
            rows.append(f"| {label} | {plan.topology} | {memory}: does not fit | | | | |")
            continue
        rows.append(
            f"| {label} | {_place(plan)} | {memory} | {plan.step_seconds * 1e3:.1f} | {plan.mfu:.1%} | "
            f"{plan.exposed_seconds / plan.step_seconds:.1%} | {plan.tokens_per_second / plan.chips:,.0f} |"
        )
    return "\n".join(rows)


def _place(plan: Plan) -> str:
    return plan.topology if plan.slices == 1 else f"{plan.slices} × {plan.topology}"


def _memory(plan: Plan) -> str:
    parts = ", ".join(f"{kind} {size / _GIB:.2f}" for kind, size in plan.memory.items())
    verdict = "fits" if plan.fits else "does not fit"
    total = sum(plan.memory.values()) / _GIB
    return f"memory         {verdict}: {total:.2f} of {plan.memory_limit / _GIB:.0f} GiB per chip ({parts})"


def _times(plan: Plan) -> list[str]:
    parts = {**plan.compute_seconds, "exposed communication": plan.exposed_seconds}
    shown = ", ".join(f"{kind} {seconds * 1e3:.1f}" for kind, seconds in parts.items())
    return [
        f"step           {plan.step_seconds * 1e3:.1f} ms ({shown}); at the chip's peaks "
        f"{plan.roofline_seconds * 1e3:.1f} ms",
        f"MFU            {plan.mfu:.1%}; per chip and step {plan.model_flops / 1e12:.2f} TFLOP of the model, "
        f"{plan.hardware_flops / 1e12:.2f} computed",
    ]


def _collectives(plan: Plan) -> list[str]:
    lines = [f"communication  {plan.exposed_seconds / plan.step_seconds:.1%} of the step is not hidden"]
    for row in plan.collectives:
        lines.append(
            f"  {row.kind} over {' × '.join(row.axes) or 'nothing'}: {row.runs} runs, {row.asynchronous} "
            f"asynchronous, {row.bytes_sent / 1e9:.3f} GB sent, {row.seconds * 1e3:.2f} ms alone"
        )
    return lines


def _run(plan: Plan, data_rate: float | None) -> list[str]:
    needed = plan.tokens_per_second_and_host
    lines = [
        f"tokens         {plan.tokens_per_second:,.0f} per second, "
        f"{plan.tokens_per_second / plan.chips:,.0f} per chip",
        f"data           a host of {plan.chips_per_host} chips has to deliver {needed:,.0f} tokens/s",
    ]
    if data_rate is not None:
        verdict = "enough" if data_rate >= needed else f"{data_rate / needed:.0%} of that"
        lines[-1] += f"; this machine's pipeline delivers {data_rate:,.0f}: {verdict}"
    lines.append(
        f"run            {plan.steps:,} steps: {plan.days:.1f} days, {plan.chip_hours:,.0f} chip-hours"
    )
    return lines

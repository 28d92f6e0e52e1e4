"""`denoise-jax resume RUN [overrides]`: goes on with a run whose configuration is in its folder."""

from denoise_jax.cli import train_command
from denoise_jax.cli.terminal import quiet
from denoise_jax.errors import UserError
from denoise_jax.paths import to_path

ResumeArguments = train_command.TrainArguments  # the run takes the place of configuration and --workdir


def main(argv: list[str]) -> int:
    """As `denoise-jax train RUN/config.json --workdir RUN`."""
    run = argv[0] if argv else "-"
    if run.startswith("-"):
        if not {"-h", "--help"} & set(argv):
            raise UserError("resume: give the folder of the run first: `resume runs/mine`")
        return train_command.main(["quickstart", *argv], "resume")
    with quiet():
        from denoise_jax.runs.run_folder import stored_config_file
    config = stored_config_file(to_path(run))
    return train_command.main([str(config), "--workdir", run, *argv[1:]], "resume")

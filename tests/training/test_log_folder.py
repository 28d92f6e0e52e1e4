"""Logs of a run in a bucket are written locally and uploaded; those of a local run are written in place."""

from denoise_jax.paths import to_path
from denoise_jax.training.log_folder import LogFolder
from denoise_jax.training.plots import plot_metrics
from denoise_jax.training.writers import open_writers, write_all


def test_a_local_run_is_its_own_log_folder(tmp_path):
    logs = LogFolder(tmp_path)
    assert logs.path == tmp_path
    logs.sync()
    logs.close()


def test_metrics_events_and_plots_arrive_in_the_bucket_and_are_continued(bucket, tiny_config):
    run = to_path(bucket) / "logged"
    for resumed, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        logs = LogFolder(run, copied=("metrics.jsonl",))
        writers = open_writers(logs.path, run, tiny_config, resumed)
        for step in steps:
            write_all(writers, step, {"train/loss": float(step)})
            logs.sync()
        for writer in writers:
            writer.close()
        plot_metrics(logs.path, tiny_config)
        logs.close()
        assert not logs.path.exists()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [line[:10] for line in lines] == [f'{{"step": {n}' for n in (1, 2, 3, 4)]
    assert len(list((run / "tensorboard").iterdir())) == 2
    assert (run / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_processes_that_do_not_log_upload_nothing(bucket):
    run = to_path(bucket) / "watched"
    (run / "metrics.jsonl").write_text("new\n")
    logs = LogFolder(run, copied=("metrics.jsonl",))
    (run / "metrics.jsonl").write_text("newer\n")
    logs.sync()
    logs.close()
    assert (run / "metrics.jsonl").read_text() == "newer\n"

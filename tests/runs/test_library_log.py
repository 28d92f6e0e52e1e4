"""The libraries' text about checkpoints goes to a file of the run; what other code logs is not touched."""

import logging

import pytest

from denoise_jax.runs.library_log import LOG, keep_library_log


@pytest.fixture(autouse=True)
def logger():
    logger = logging.getLogger("asyncio")
    filters, level = list(logger.filters), logger.level
    yield logger
    logger.filters, logger.level = filters, level


@pytest.mark.parametrize("text", ["Error writing to OCDBT database", "in /run/checkpoints/6", "gcsfs: 503"])
def test_records_of_checkpoints_are_kept_in_the_run(tmp_path, logger, caplog, text):
    logger.setLevel(logging.CRITICAL)  # as the command line does
    keep_library_log(tmp_path)
    logger.error("Task exception was never retrieved\n%s", text)
    logger.error("of other code")
    assert [record.getMessage() for record in caplog.records] == ["of other code"]
    assert text in (tmp_path / LOG).read_text()


def test_one_run_at_a_time_and_none_while_only_reading(tmp_path, logger, caplog):
    for run in (tmp_path / "missing", tmp_path, None):
        keep_library_log(run)
        logger.error("checkpoint %s", run)
    assert (tmp_path / LOG).read_text().count("checkpoint") == 1
    assert caplog.records == []

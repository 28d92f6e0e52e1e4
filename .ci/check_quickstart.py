"""Checks that the evaluation written by `make quickstart` is as good as the README says."""

import json
import sys
from pathlib import Path

(file,) = Path("runs/quickstart/eval").glob("*.json")
result = json.loads(file.read_text())
hidden, baseline = result["hidden_accuracy"], result["baseline_accuracy"]
print(f"visible {result['visible_accuracy']:.3f}, hidden {hidden:.3f}, most frequent token {baseline:.3f}")
if result["split"] != "test" or result["visible_accuracy"] < 0.95 or hidden < 3 * baseline:
    sys.exit("on the test split, visible accuracy must be .95 and hidden accuracy three times the baseline")
if not Path("runs/quickstart/plots/loss.png").read_bytes().startswith(b"\x89PNG"):
    sys.exit("runs/quickstart/plots/loss.png is not a PNG file")

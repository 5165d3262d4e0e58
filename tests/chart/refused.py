"""Tries the values that the chart must refuse.

    refused.py CHART -- COMMAND…      COMMAND gets the chart and '-f FILE'; it must fail, with the reason in what it says

Prints a line for each mistake and one that counts.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

import yaml


def main():
    split = sys.argv.index("--")
    (chart,), command = sys.argv[1:split], sys.argv[split + 1 :]
    cases = yaml.safe_load((pathlib.Path(__file__).parent / "refused.yaml").read_text())
    passed, failed = 0, 0
    for case in cases:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
            yaml.safe_dump(case["values"], values)
            values.flush()
            files = ["-f", f"{chart}/ci/{case['base']}-values.yaml"] if "base" in case else []
            run = subprocess.run([*command, chart, *files, "-f", values.name], capture_output=True, text=True, check=False)
        if run.returncode == 0:
            print(f"not refused: {case['name']}")
        elif not re.search(case["error"], run.stderr):
            print(f"refused for another reason: {case['name']}: {run.stderr.strip()}")
        else:
            passed += 1
            continue
        failed += 1
    print(f"refused: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()

"""Checks that the chart and the program know the same settings.

    settings.py CHART DOCUMENT MANIFEST…

Each setting of DOCUMENT (docs/configuration.md) is either set by the chart in one of the rendered MANIFESTs or can be given
in `config`, and the chart knows no other. Where PROGRAM names the program, it takes what each container sets.
What tests/chart/config.yaml says is accepted or refused is by the chart and by the program.
Prints a line for each mistake and one that counts.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

PREFIX = "MESSAGE_WEBHOOK_"


def containers(item):
    pod = item.get("spec", {}).get("template", {}).get("spec", {})
    return pod.get("initContainers", []) + pod.get("containers", [])


def takes(command, environment=None):
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return run.returncode == 0


def text(value):
    return ",".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)


def judged(chart, program):
    """What the chart, and the program where there is one, judge otherwise than tests/chart/config.yaml; and how many there are."""
    cases = yaml.safe_load((pathlib.Path(__file__).parent / "config.yaml").read_text())
    wrong, count = [], 0
    for verdict, config in ((verdict, config) for verdict in ("accepted", "refused") for config in cases[verdict]):
        store = config.pop("store", "embedded")
        values = {"config": config}
        if store == "scylla":
            values["store"] = {"type": "scylla", "scylla": {"nodes": ["scylla"]}}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values, file)
            file.flush()
            judges = {"chart": takes(["helm", "template", "mw", chart, "--values", file.name])}
        if program:
            environment = {f"{PREFIX}{name.upper()}": text(value) for name, value in config.items()}
            environment |= {f"{PREFIX}STORE": store} | ({f"{PREFIX}SCYLLA_NODES": "scylla"} if store == "scylla" else {})
            judges["program"] = takes([program, "config"], environment)
        wrong += [f"not {verdict} by the {judge}: {config}" for judge, taken in judges.items() if taken != (verdict == "accepted")]
        count += len(judges)
    return wrong, count


def main():
    chart, document, *manifests = map(pathlib.Path, sys.argv[1:])
    program = os.environ.get("PROGRAM")
    settings = set(re.findall(r"^\| `([a-z_]+)` \|", document.read_text(), re.M))
    given = set(json.loads((chart / "values.schema.json").read_text())["properties"]["config"]["properties"])
    rendered = set()
    mistakes = []
    passed = 0
    for manifest in manifests:
        items = [item for item in yaml.safe_load_all(manifest.read_text()) if item]
        for container in (container for item in items for container in containers(item)):
            environment = {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
            rendered |= {name.removeprefix(PREFIX).lower() for name in environment if name.startswith(PREFIX)}
            if not program or not any(name.startswith(PREFIX) for name in environment):
                continue
            run = subprocess.run([program, "config"], env=environment, capture_output=True, text=True, check=False)
            if run.returncode:
                mistakes.append(f"{manifest.stem}, container {container['name']}: {run.stderr.strip()}")
            else:
                passed += 1
    wrong, count = judged(chart, program)
    mistakes += wrong
    passed += count - len(wrong)
    mistakes += [f"'{name}' is no setting" for name in sorted((given | rendered) - settings)]
    mistakes += [f"the chart cannot set '{name}'" for name in sorted(settings - given - rendered)]
    for mistake in mistakes:
        print(f"settings: {mistake}")
    print(f"settings: {len(settings & (given | rendered)) + passed} passed, {len(mistakes)} failed")
    sys.exit(bool(mistakes))


main()

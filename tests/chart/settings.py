"""Checks that the chart and the program know the same settings.

    settings.py SCHEMA DOCUMENT MANIFEST…

Each setting of DOCUMENT (docs/configuration.md) is either set by the chart in one of the rendered MANIFESTs or can be given
in `config`, and the chart knows no other. Where PROGRAM names the program, it takes what each ConfigMap and container sets.
Prints a line for each mistake and one that counts.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import yaml

PREFIX = "MESSAGE_WEBHOOK_"


def containers(item):
    pod = item.get("spec", {}).get("template", {}).get("spec", {})
    return pod.get("initContainers", []) + pod.get("containers", [])


def main():
    schema, document, *manifests = map(pathlib.Path, sys.argv[1:])
    program = os.environ.get("PROGRAM")
    settings = set(re.findall(r"^\| `([a-z_]+)` \|", document.read_text(), re.M))
    given = set(json.loads(schema.read_text())["properties"]["config"]["properties"])
    rendered = set()
    mistakes = []
    passed = 0
    for manifest in manifests:
        items = [item for item in yaml.safe_load_all(manifest.read_text()) if item]
        maps = {item["metadata"]["name"]: item["data"] for item in items if item["kind"] == "ConfigMap"}
        for data in maps.values():
            rendered |= {name.removeprefix(PREFIX).lower() for name in data if name.startswith(PREFIX)}
        for container in (container for item in items for container in containers(item)):
            environment = {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
            for source in container.get("envFrom", []):
                environment |= maps.get(source["configMapRef"]["name"], {})
            if not program or not any(name.startswith(PREFIX) for name in environment):
                continue
            run = subprocess.run([program, "config"], env=environment, capture_output=True, text=True, check=False)
            if run.returncode:
                mistakes.append(f"{manifest.stem}, container {container['name']}: {run.stderr.strip()}")
            else:
                passed += 1
    mistakes += [f"'{name}' is no setting" for name in sorted((given | rendered) - settings)]
    mistakes += [f"the chart cannot set '{name}'" for name in sorted(settings - given - rendered)]
    for mistake in mistakes:
        print(f"settings: {mistake}")
    print(f"settings: {len(settings & (given | rendered)) + passed} passed, {len(mistakes)} failed")
    sys.exit(bool(mistakes))


main()

"""Checks that the chart and the program know the same settings.

    settings.py SCHEMA DOCUMENT MANIFEST…

Each setting of DOCUMENT (docs/configuration.md) is either set by the chart in one of the rendered MANIFESTs or can be given
in `config`, and the chart knows no other. Prints a line for each mistake and one that counts.
"""

import json
import pathlib
import re
import sys

import yaml

PREFIX = "MESSAGE_WEBHOOK_"


def main():
    schema, document, *manifests = map(pathlib.Path, sys.argv[1:])
    settings = set(re.findall(r"^\| `([a-z_]+)` \|", document.read_text(), re.M))
    given = set(json.loads(schema.read_text())["properties"]["config"]["properties"])
    rendered = set()
    for manifest in manifests:
        for item in yaml.safe_load_all(manifest.read_text()):
            if item and item["kind"] == "ConfigMap":
                rendered |= {name.removeprefix(PREFIX).lower() for name in item["data"] if name.startswith(PREFIX)}
    mistakes = [f"'{name}' is no setting" for name in sorted((given | rendered) - settings)]
    mistakes += [f"the chart cannot set '{name}'" for name in sorted(settings - given - rendered)]
    for mistake in mistakes:
        print(f"settings: {mistake}")
    print(f"settings: {len(settings & (given | rendered))} passed, {len(mistakes)} failed")
    sys.exit(bool(mistakes))


main()

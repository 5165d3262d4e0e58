"""Checks rendered manifests against Kubernetes' own schemas and those of custom resources, strictly.

    manifests.py CRDS VERSION,… NAME=FILE…

CRDS is a directory of CustomResourceDefinitions. A field that no schema knows is a mistake, and so are a kind without a
schema, a key that is given twice and a name that is. So is a field of a custom resource that the API server would fill in:
what compares a manifest with what is stored, as Argo CD does, would find a difference for ever. Prints a line for each mistake and one that counts.
"""

import json
import pathlib
import re
import sys

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SCHEMAS = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML as Kubernetes reads it: '=' is text, and a key is given once."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"line {node.start_mark.line + 1}: '{key}' is given twice")
        return super().construct_mapping(node, deep)


Loader.add_constructor("tag:yaml.org,2002:value", yaml.SafeLoader.construct_scalar)


class BuiltIn:
    """The schemas of one version of Kubernetes."""

    def __init__(self, version):
        (self.directory,) = SCHEMAS.glob(f"v{version}.*-local-strict")
        definitions = Resource.from_contents(json.loads((self.directory / "_definitions.json").read_text()))
        self.registry = definitions @ Registry()
        self.validators = {}

    def validator(self, kind, api_version):
        key = (kind, api_version)
        if key not in self.validators:
            group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
            path = self.directory / f"{kind.lower()}-{group}.json"
            schema = json.loads(path.read_text()) if path.exists() else None
            self.validators[key] = schema and Draft202012Validator(schema, registry=self.registry)
        return self.validators[key]


def strict(schema):
    """The schema of a custom resource, with fields that it does not name refused, as the API server does."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(part) for name, part in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if isinstance(made.get("properties"), dict) and "type" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    # Formats of Go and patterns of RE2 are for the API server.
    made.pop("format", None)
    if isinstance(made.get("pattern"), str):
        try:
            re.compile(made["pattern"])
        except re.error:
            del made["pattern"]
    return made


def custom(directory):
    """Validators of all versions that are served, by kind and version."""
    validators = {}
    for path in sorted(pathlib.Path(directory).glob("*.yaml")):
        for document in yaml.load_all(path.read_text(), Loader):
            if not document or document["kind"] != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                if not version["served"]:
                    continue
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"].update(apiVersion={"type": "string"}, kind={"type": "string"}, metadata={"type": "object"})
                key = (spec["names"]["kind"], f"{spec['group']}/{version['name']}")
                validators[key] = Draft202012Validator(schema)
    return validators


def filled_in(schema, value, path=""):
    """Fields that the API server would give a default to."""
    fields = schema.get("properties", {})
    if isinstance(value, dict):
        for name, field in fields.items():
            where = f"{path}.{name}".strip(".")
            if name in value:
                yield from filled_in(field, value[name], where)
            elif "default" in field:
                yield f"{where}: {json.dumps(field['default'])}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from filled_in(schema.get("items", {}), item, f"{path}[{index}]")


def main():
    directory, versions, *files = sys.argv[1:]
    built_in = {version: BuiltIn(version) for version in versions.split(",")}
    known = custom(directory)
    passed, failed = 0, 0

    for name, path in (argument.split("=", 1) for argument in files):
        try:
            documents = [document for document in yaml.load_all(pathlib.Path(path).read_text(), Loader) if document]
        except (ValueError, yaml.YAMLError) as error:
            print(f"{name}: {error}")
            failed += 1
            continue
        seen = set()
        for document in documents:
            kind, api_version = document["kind"], document["apiVersion"]
            title = f"{name}: {kind} {document['metadata']['name']}"
            mistakes = []
            if (kind, api_version, title) in seen:
                mistakes.append("is there twice")
            seen.add((kind, api_version, title))
            for version, schemas in built_in.items():
                validator = known.get((kind, api_version)) or schemas.validator(kind, api_version)
                if validator is None:
                    mistakes.append(f"no schema of {api_version} {kind} for Kubernetes {version}")
                    continue
                for error in validator.iter_errors(document):
                    where = ".".join(str(part) for part in error.path)
                    mistakes.append(f"Kubernetes {version}: {where}: {error.message[:300]}")
            if (kind, api_version) in known:
                missing = filled_in(known[kind, api_version].schema, document)
                mistakes += [f"the API server would fill in {default}" for default in missing]
            for mistake in mistakes:
                print(f"{title}: {mistake}")
            passed, failed = (passed, failed + 1) if mistakes else (passed + 1, failed)

    print(f"schemas: {passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)


main()

"""The commands of docs/operations/kubernetes.md that need no running pod and no controller, as they stand there, against a live
API server.
"""

import os
import pathlib
import re
import shlex
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "operations" / "kubernetes.md"


class Wrong(Exception):
    """A command that is not in the document, or that fails."""


def commands():
    text = DOCUMENT.read_text().replace("\\\n", " ")
    blocks = [block for language, block in re.findall(r"^ *```(.*)\n((?:.*\n)*?) *```$", text, re.M) if not language]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", text)
    return [" ".join(line.split()) for line in lines + spans], blocks


def follow(helm, work):
    """An install of each store, what is done to it, and its end; each command must be in the document word for word."""
    known, blocks = commands()
    folder = work / f"documented-{helm}"
    folder.mkdir()
    (folder / "helm").symlink_to(ROOT / "helm")
    (folder / "password").write_text("secret")
    (values,) = [block for block in blocks if "autoscaling: {enabled: true, minReplicas: 3" in block]
    (folder / "values.yaml").write_text(values)

    def run(command, documented=True):
        if documented and command not in known:
            raise Wrong(f"not in {DOCUMENT.name}: {command}")
        words = shlex.split(command)
        words[0] = helm if words[0] == "helm" else words[0]
        done = subprocess.run(words, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=180, check=False)
        if done.returncode:
            raise Wrong(f"{command}: {done.stdout}{done.stderr}"[-1500:])
        return done.stdout

    run(
        "helm install message-webhook helm/message-webhook --namespace messages --create-namespace "
        "--set image.repository=registry.example.com/message-webhook --set store.embedded.persistence.size=50Gi"
    )
    run("kubectl config set-context --current --namespace messages", documented=False)
    run("helm uninstall message-webhook --namespace messages", documented=False)
    run("kubectl -n messages create secret generic message-webhook-database --from-file=password=./password")
    run("helm install message-webhook helm/message-webhook --namespace messages --values values.yaml")
    run("kubectl -n messages rollout restart deployment/message-webhook")
    run("helm upgrade message-webhook helm/message-webhook --namespace messages --values values.yaml")
    run("kubectl delete job,networkpolicy,serviceaccount,externalsecret,certificate -l app.kubernetes.io/component=migrate")
    run("helm uninstall message-webhook")
    run("kubectl delete secret message-webhook-database", documented=False)
    run("kubectl config set-context --current --namespace default", documented=False)

"""One pod of the rendered chart, run by podman as a kubelet would: what the chart says decides, nothing here does."""

import json
import os
import pathlib
import subprocess
import urllib.error
import urllib.request

import yaml

CHART = "helm/message-webhook"
HTTP = "127.0.0.1:8080"
SIZES = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def bytes_of(quantity):
    return int(quantity[:-2]) * SIZES[quantity[-2:]]


class Pod:
    def __init__(self, image, folder, run, until, limits):
        self.image, self.folder, self.run, self.until = image, pathlib.Path(folder), run, until
        self.limits = limits
        self.name, self.volume = f"message-webhook-{os.getpid()}", f"message-webhook-data-{os.getpid()}"
        self.key, entry = self.generate_key()
        documents = self.render()
        spec = next(each for each in documents if each["kind"] == "StatefulSet")["spec"]["template"]["spec"]
        self.container, = spec["containers"]
        self.spec = spec
        self.grace = spec["terminationGracePeriodSeconds"]
        self.memory = bytes_of(self.container["resources"]["limits"]["memory"])
        self.objects = {(each["kind"], each["metadata"]["name"]): each for each in documents}
        self.keys_file_entry = entry

    def generate_key(self):
        lines = self.run("podman", "run", "--rm", "--network=none", *self.limits, self.image, "keys", "generate",
                         "--org", "acme", "--env", "dev", "--scope", "submit", "--scope", "read").stdout
        key, _, entry = lines.partition("\n\n")
        return key.strip(), entry

    def render(self):
        repository, _, tag = self.image.rpartition(":")
        text = self.run("helm", "template", "image-test", CHART, "--values", f"{CHART}/ci/embedded-values.yaml",
                        "--set", f"image.repository={repository}", "--set", f"image.tag={tag}",
                        "--set", "keys.existingSecret=keys").stdout
        return [each for each in yaml.safe_load_all(text) if each]

    def flags(self):
        """The chart's settings in podman's words. One that has none here is an error, not left out."""
        pod, own = self.spec["securityContext"], self.container["securityContext"]
        settings = pod | own
        assert settings["runAsNonRoot"] is True and settings["allowPrivilegeEscalation"] is False, settings
        assert settings["readOnlyRootFilesystem"] is True and settings["capabilities"]["drop"] == ["ALL"], settings
        assert settings["seccompProfile"]["type"] == "RuntimeDefault", settings
        flags = ["--network=host", "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL",
                 "--security-opt", "no-new-privileges",
                 "--user", f"{settings['runAsUser']}:{settings['runAsGroup']}", "--memory", str(self.memory)]
        for variable in self.container.get("env", []):
            if "value" in variable:
                flags += ["--env", f"{variable['name']}={variable['value']}"]
            else:
                assert set(variable["valueFrom"]) <= {"fieldRef", "resourceFieldRef", "secretKeyRef"}, variable
        for source in self.container.get("envFrom", []):
            data = self.objects[("ConfigMap", source["configMapRef"]["name"])]["data"]
            for name, value in data.items():
                flags += ["--env", f"{name}={value}"]
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        for mount in self.container["volumeMounts"]:
            options = "ro" if mount.get("readOnly") else "rw"
            path = mount["mountPath"]
            volume = volumes.get(mount["name"])
            if volume is None:
                # Of the claim: owned by the pod's group, as fsGroup has it.
                flags += ["--volume", f"{self.volume}:{path}:{options},U"]
            elif "emptyDir" in volume:
                flags += ["--tmpfs", f"{path}:{options},mode=1777"]
            else:
                flags += ["--volume", f"{self.files_of(volume)}:{path}:{options}"]
        return flags

    def files_of(self, volume):
        folder = self.folder / volume["name"]
        folder.mkdir(exist_ok=True)
        for source in volume.get("projected", {}).get("sources", [volume]):
            if "configMap" in source:
                files = self.objects[("ConfigMap", source["configMap"]["name"])]["data"]
            else:
                # The one secret of this installation: the API keys, under whatever names the chart shows their file.
                secret = source["secret"]
                files = {item["path"]: self.keys_file_entry for item in secret.get("items", [])}
                files = files or {"keys.toml": self.keys_file_entry}
            for name, text in files.items():
                (folder / name).write_text(text)
                (folder / name).chmod(0o444)
        return folder

    def start(self):
        self.run("podman", "rm", "--force", "--time", "0", self.name, check=False)
        command = [*self.container.get("command", []), *self.container.get("args", [])]
        assert not self.container.get("command"), "the chart runs the image's own entry point"
        self.run("podman", "run", "--detach", "--name", self.name, *self.limits, *self.flags(), self.image, *command)

        def is_ready():
            """/readyz says 200"""
            assert self.running(), self.logs()
            with urllib.request.urlopen(self.probes()["readinessProbe"], timeout=5) as answer:
                return answer.status == 200

        self.until(is_ready)

    def probes(self):
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        return {name: "http://127.0.0.1:{}{}".format(ports.get(get["port"], get["port"]), get["path"])
                for name in ("startupProbe", "livenessProbe", "readinessProbe")
                if (get := self.container.get(name, {}).get("httpGet"))}

    def submit(self, sid):
        request = urllib.request.Request(
            f"http://{HTTP}/acme/dev/v1/message-webhook", method="POST",
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            data=json.dumps({"from_id": "user_abc123", "message_sid": sid, "timestamp": "1672531200",
                             "message_body": "Hello"}).encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)["message"]
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def program(self, *arguments, mount=None, timeout=60):
        """The image's own program as a client, in a container of its own."""
        volumes = ["--volume", mount] if mount else []
        return self.run("podman", "run", "--rm", "--network=host", *self.limits, *volumes,
                        "--env", f"MESSAGE_WEBHOOK_KEY={self.key}", self.image, *arguments, timeout=timeout)

    def inspected(self, what):
        return self.run("podman", "inspect", "--format", what, self.name).stdout.strip()

    def pid(self):
        return int(self.inspected("{{.State.Pid}}"))

    def running(self):
        return self.inspected("{{.State.Running}}") == "true"

    def peak_memory(self):
        """Bytes of the process's memory in RAM, at most so far."""
        status = pathlib.Path(f"/proc/{self.pid()}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def logs(self):
        done = subprocess.run(["podman", "logs", self.name], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done.stdout + done.stderr

    def close(self):
        self.run("podman", "rm", "--force", "--time", "0", self.name, check=False)
        self.run("podman", "volume", "rm", "--force", self.volume, check=False)

"""Installs the chart into a real API server on loopback: etcd and kube-apiserver, and no kubelet.

    cluster.py CRDS      CRDS is a directory of CustomResourceDefinitions; the programs are in PATH

Objects are validated, defaulted, admitted (Pod Security "restricted" is enforced) and stored as in any cluster, but nothing
runs: Jobs of hooks and pods of tests are ended by what stands in for the kubelet here. Prints a line for each check, and one
that counts.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import yaml

import documents

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "message-webhook"
TOKEN = "of-this-test-alone"
HELMS = ("helm", "helm3")
RELEASE = "mw"
NAME = "mw-message-webhook"
# What a release of ours can have; what is left of it after 'uninstall' is looked for in all of them.
RESOURCES = (
    "/api/v1/{}/serviceaccounts /api/v1/{}/configmaps /api/v1/{}/services /api/v1/{}/pods /apis/apps/v1/{}/deployments "
    "/apis/apps/v1/{}/statefulsets /apis/batch/v1/{}/jobs /apis/networking.k8s.io/v1/{}/networkpolicies "
    "/apis/networking.k8s.io/v1/{}/ingresses /apis/policy/v1/{}/poddisruptionbudgets "
    "/apis/autoscaling/v2/{}/horizontalpodautoscalers /apis/keda.sh/v1alpha1/{}/scaledobjects "
    "/apis/monitoring.coreos.com/v1/{}/servicemonitors /apis/monitoring.coreos.com/v1/{}/podmonitors "
    "/apis/monitoring.coreos.com/v1/{}/prometheusrules /apis/cert-manager.io/v1/{}/certificates "
    "/apis/external-secrets.io/v1/{}/externalsecrets /apis/gateway.networking.k8s.io/v1/{}/httproutes "
    "/apis/gateway.networking.k8s.io/v1/{}/grpcroutes"
).split()


class Failed(Exception):
    """A check that did not hold, with what there was instead."""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=180, check=False, **options)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout


def must(condition, text):
    if not condition:
        raise Failed(text)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """etcd, kube-apiserver, and a thread that ends what a kubelet would run."""

    def __init__(self, home):
        self.home = home
        self.port = free_port()
        self.processes = []
        self.context = ssl.create_default_context()
        # The server's certificate is its own, of this start.
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.jobs_fail = False
        self.stopping = threading.Event()

    def start(self):
        home, etcd, peer = self.home, f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        run("openssl", "genrsa", "-out", home / "sa.key", "2048")
        run("openssl", "rsa", "-in", home / "sa.key", "-pubout", "-out", home / "sa.pub")
        (home / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
        restricted = {f"{mode}{part}": value for mode in ("enforce", "warn", "audit") for part, value in (("", "restricted"), ("-version", "latest"))}
        admission = {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AdmissionConfiguration",
            "plugins": [
                {
                    "name": "PodSecurity",
                    "configuration": {
                        "apiVersion": "pod-security.admission.config.k8s.io/v1",
                        "kind": "PodSecurityConfiguration",
                        "defaults": restricted,
                    },
                }
            ],
        }
        (home / "admission.yaml").write_text(yaml.safe_dump(admission))
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        (home / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        (home / "kubeconfig").chmod(0o600)
        self.spawn(
            "etcd", f"--data-dir={home}/etcd", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )
        self.spawn(
            "kube-apiserver", f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}", f"--cert-dir={home}/certificates", f"--token-auth-file={home}/tokens.csv",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={home}/sa.pub",
            f"--service-account-signing-key-file={home}/sa.key", "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112",
            "--authorization-mode=RBAC", f"--admission-control-config-file={home}/admission.yaml",
            # It waits for a controller that gives each namespace its ServiceAccount.
            "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
        )
        self.wait("/readyz", 120)
        threading.Thread(target=self.stand_in_for_the_kubelet, daemon=True).start()

    def spawn(self, name, *arguments):
        log = open(self.home / f"{name}.log", "wb")
        self.processes.append(subprocess.Popen([name, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def stop(self):
        self.stopping.set()
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def wait(self, path, seconds):
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                return self.call("GET", path)
            dead = [process.args[0] for process in self.processes if process.poll() is not None]
            if dead or time.monotonic() > end:
                logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in self.home.glob("*.log"))
                raise Failed(f"no answer of {path}; ended: {dead}\n{logs}")
            time.sleep(0.2)

    def call(self, method, path, body=None, kind="application/json"):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data, method=method)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=30, context=self.context) as answer:
            text = answer.read()
            return json.loads(text) if text.startswith(b"{") else text.decode()

    def get(self, path):
        return self.call("GET", path)

    def exists(self, path):
        try:
            return bool(self.get(path))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise

    def stand_in_for_the_kubelet(self):
        """Ends each Job and each pod of a test, well or, when told so, badly."""
        while not self.stopping.wait(0.15):
            # The next look makes up for what goes wrong in this one, as when an object is deleted meanwhile.
            with contextlib.suppress(OSError):
                for job in self.get("/apis/batch/v1/jobs")["items"]:
                    if not job["status"].get("conditions"):
                        self.end_job(job, self.missing(job))
                for pod in self.get("/api/v1/pods")["items"]:
                    if pod["status"].get("phase") == "Pending":
                        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
                        self.call("PATCH", path, {"status": {"phase": "Succeeded"}}, "application/merge-patch+json")

    def missing(self, job):
        """What the Job's pod would wait for: objects of the release that are not there."""
        namespace, pod = job["metadata"]["namespace"], job["spec"]["template"]["spec"]
        volumes = pod.get("volumes", [])
        needed = [("v1", "serviceaccounts", pod["serviceAccountName"])]
        needed += [
            ("v1", "configmaps", source["configMapRef"]["name"]) for container in pod["containers"] for source in container.get("envFrom", [])
        ]
        needed += [("v1", "configmaps", volume["configMap"]["name"]) for volume in volumes if "configMap" in volume]
        # Operators make the Secrets; here what they make them of is enough, which has the Secret's name.
        needed += [("secret", "", volume["secret"]["secretName"]) for volume in volumes if "secret" in volume]
        missing = []
        for version, resource, name in needed:
            # What neither the chart's name nor its hash are in is the user's, and was there before.
            if not name.startswith((NAME, job["metadata"]["name"].removesuffix("-migrate")[:20])):
                continue
            if version == "secret":
                groups = ("external-secrets.io/v1/{}/externalsecrets", "cert-manager.io/v1/{}/certificates")
                paths = [f"/apis/{group.format(f'namespaces/{namespace}')}/{name}" for group in groups]
                paths.append(f"/api/v1/namespaces/{namespace}/secrets/{name}")
            else:
                paths = [f"/api/v1/namespaces/{namespace}/{resource}/{name}"]
            if not any(self.exists(path) for path in paths):
                missing.append(name)
        return missing

    def end_job(self, job, missing):
        fails = self.jobs_fail or missing
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        conditions = ("FailureTarget", "Failed") if fails else ("SuccessCriteriaMet", "Complete")
        status = {
            "startTime": now,
            "conditions": [
                {
                    "type": kind, "status": "True", "reason": "Test", "message": f"missing: {missing}" if missing else "",
                    "lastProbeTime": now, "lastTransitionTime": now,
                }
                for kind in conditions
            ],
        }
        status.update({"failed": 1} if fails else {"succeeded": 1, "completionTime": now})
        path = f"/apis/batch/v1/namespaces/{job['metadata']['namespace']}/jobs/{job['metadata']['name']}/status"
        self.call("PATCH", path, {"status": status}, "application/merge-patch+json")


class Checks:
    """All checks, each counted."""

    def __init__(self, cluster, work):
        self.cluster = cluster
        self.work = work
        self.passed = 0
        self.failed = 0
        self.previous = self.package_previous()

    def check(self, name, action):
        """One check; those that follow need not be tried when it fails."""
        try:
            result = action()
        except (Failed, documents.Wrong, subprocess.TimeoutExpired, OSError, KeyError) as error:
            self.failed += 1
            print(f"FAILED {name}: {error}", flush=True)
            raise Failed(name) from error
        self.passed += 1
        print(f"ok     {name}", flush=True)
        return result

    def group(self, action, *arguments):
        with contextlib.suppress(Failed):
            action(*arguments)

    def package_previous(self):
        """The latest released chart before this one; before there is any, this one with lower versions."""
        current = yaml.safe_load((CHART / "Chart.yaml").read_text())
        source = self.work / "previous" / "message-webhook"
        source.parent.mkdir()
        tags = subprocess.run(
            ["git", "-C", ROOT, "tag", "--list", "v*", "--merged", "HEAD", "--sort=-v:refname"], capture_output=True, text=True, check=False
        )
        for tag in tags.stdout.split():
            archive = subprocess.run(["git", "-C", ROOT, "archive", tag, "helm/message-webhook"], capture_output=True, check=False)
            if archive.returncode == 0 and tag != f"v{current['version']}":
                subprocess.run(["tar", "x", "--strip-components=1", "-C", source.parent], input=archive.stdout, check=True)
                print(f"previous chart: {tag}")
                return source
        shutil.copytree(CHART, source)
        (source / "Chart.yaml").write_text(yaml.safe_dump({**current, "version": "0.0.1", "appVersion": "0.0.1"}))
        print("previous chart: this one as 0.0.1, for none was released")
        return source

    def dry_run(self, helm, values):
        """Every object by itself, with nothing unknown, and without a warning."""
        namespace = f"dry-{values.stem}-{helm}"
        self.make_namespace(namespace)
        manifest = self.work / "manifest.yaml"
        manifest.write_text(run(helm, "template", RELEASE, CHART, "--namespace", namespace, "--values", values))
        run(
            "kubectl", "apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "--namespace", namespace,
            "--filename", manifest,
        )

    def in_sync(self, values):
        """After a sync, which applies what is rendered, Argo CD's own library finds no difference, in both of its ways. Hooks are gone."""
        namespace = f"sync-{values.stem}"
        self.make_namespace(namespace)
        text = run("helm", "template", RELEASE, CHART, "--namespace", namespace, "--values", values)
        objects = [each for each in yaml.safe_load_all(text) if each and "helm.sh/hook" not in each["metadata"].get("annotations", {})]
        for each in objects:
            # What names none gets that of the application.
            each["metadata"].setdefault("namespace", namespace)
        manifest = self.work / "manifest.yaml"
        manifest.write_text(yaml.safe_dump_all(objects))
        on_the_server = ("--server-side", "--force-conflicts", "--field-manager=argocd-controller")
        for options, mode in (((), ()), (on_the_server, ("--server",))):
            run("kubectl", "apply", *options, "--namespace", namespace, "--filename", manifest)
            answer = run("kubectl", "get", "--show-managed-fields", "--namespace", namespace, "--filename", manifest, "--output", "json")
            stored = json.loads(answer)["items"]
            must(len(stored) == len(objects) > 5, f"{len(stored)} objects of {len(objects)} are stored")
            pairs = [{"config": wanted, "live": live} for wanted, live in zip(objects, stored)]
            must(all(pair["config"]["kind"] == pair["live"]["kind"] for pair in pairs), "kubectl answers in another order")
            found = run("argocd-diff", *mode, input=json.dumps(pairs))
            must(not found, found)

    def two_releases(self, helm):
        """Two of one chart in one namespace, and a third of the first one's name in another: each has its own, and one can go."""
        here, there = f"shared-{helm}", f"other-{helm}"
        values = CHART / "ci" / "scylla-full-values.yaml"
        for namespace in (here, there):
            self.make_namespace(namespace)
        for release, namespace in (("first", here), ("second", here), ("first", there)):
            # The keyspaces' users are theirs; what the cluster has once, such as names of hosts, nobody minds here.
            run(helm, "install", release, CHART, "--namespace", namespace, "--values", values, "--timeout", "60s")
        def rules(namespace, release):
            path = f"/apis/monitoring.coreos.com/v1/namespaces/{namespace}/prometheusrules/{release}-message-webhook"
            return json.dumps(self.cluster.get(path)["spec"])
        texts = [rules(here, "first"), rules(here, "second"), rules(there, "first")]
        must(len(set(texts)) == 3, "two releases have the same rules")
        selectors = [
            self.cluster.get(f"/apis/apps/v1/namespaces/{here}/deployments/{release}-message-webhook")["spec"]["selector"]
            for release in ("first", "second")
        ]
        must(selectors[0] != selectors[1], "two releases have the same pods")
        before = self.cluster.get(f"/api/v1/namespaces/{here}/services?labelSelector=app.kubernetes.io/instance%3Dsecond")["items"]
        run(helm, "uninstall", "first", "--namespace", here, "--timeout", "60s", "--wait")
        after = self.cluster.get(f"/api/v1/namespaces/{here}/services?labelSelector=app.kubernetes.io/instance%3Dsecond")["items"]
        must(len(before) == len(after) == 4, "the other release lost a Service")
        for release, namespace in (("second", here), ("first", there)):
            run(helm, "uninstall", release, "--namespace", namespace, "--timeout", "60s", "--wait")

    def make_namespace(self, name):
        self.cluster.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def left(self, namespace):
        found = []
        for resource in RESOURCES:
            path = resource.format(f"namespaces/{namespace}") + f"?labelSelector=app.kubernetes.io/instance%3D{RELEASE}"
            found += [f"{resource.rsplit('/', 1)[1]}/{item['metadata']['name']}" for item in self.cluster.get(path)["items"]]
        return found

    def life_of_a_release(self, helm, values):
        """Installed by the chart before, upgraded, scaled by somebody, upgraded, tested, rolled back, uninstalled."""
        case = values.name.removesuffix("-values.yaml")
        namespace = f"{case}-{helm}"
        given = yaml.safe_load(values.read_text())
        name = given.get("fullnameOverride", NAME)
        is_scylla = given.get("store", {}).get("type") == "scylla"
        is_scaled = given.get("autoscaling", {}).get("enabled") or given.get("keda", {}).get("enabled")
        workload = f"/apis/apps/v1/namespaces/{namespace}/{'deployments' if is_scylla else 'statefulsets'}/{name}"
        api = self.cluster
        self.make_namespace(namespace)

        def release(verb, chart, *more):
            run(helm, verb, RELEASE, chart, "--namespace", namespace, "--values", values, "--timeout", "60s", *more)

        def settings():
            return api.get(workload)["spec"]["template"]["spec"]["containers"][0]["env"]

        def install():
            release("install", self.previous)
            template = api.get(workload)["spec"]["template"]
            must(template["spec"]["containers"][0]["lifecycle"] if given.get("drain", {}).get("delaySeconds", 5) else True, "no preStop")
            must(not api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"], "the migration's Job is still there")

        def upgrade():
            before = api.get(workload)
            release("upgrade", CHART)
            after = api.get(workload)
            must(before["metadata"]["labels"]["helm.sh/chart"] != after["metadata"]["labels"]["helm.sh/chart"], "nothing was upgraded")
            must(before["metadata"]["uid"] == after["metadata"]["uid"], "the workload was made anew")

        def scale():
            api.call("PATCH", f"{workload}/scale", {"spec": {"replicas": 5}}, "application/merge-patch+json")

        def upgrade_of_a_setting():
            before = settings()
            release("upgrade", CHART, "--set", "config.log_level=debug")
            must(settings() != before, "the pods are not replaced")
            if is_scaled:
                replicas = api.get(workload)["spec"]["replicas"]
                must(replicas == 5, f"{replicas} replicas are left of 5 that somebody else wanted")

        def upgrade_that_cannot_migrate():
            before = api.get(workload)["spec"]["template"]
            api.jobs_fail = True
            try:
                release("upgrade", CHART, "--set", "config.log_level=trace")
            except Failed:
                pass
            else:
                raise Failed("the upgrade went on")
            finally:
                api.jobs_fail = False
            must(api.get(workload)["spec"]["template"] == before, "the servers were replaced")

        def rollback():
            run(helm, "rollback", RELEASE, "1", "--namespace", namespace, "--timeout", "60s")
            chart = api.get(workload)["metadata"]["labels"]["helm.sh/chart"]
            must(chart == f"message-webhook-{yaml.safe_load((self.previous / 'Chart.yaml').read_text())['version']}", chart)

        def forward():
            release("upgrade", CHART)

        def uninstall():
            run(helm, "uninstall", RELEASE, "--namespace", namespace, "--timeout", "60s", "--wait")
            left = self.left(namespace)
            must(not left, f"left: {left}")

        self.check(f"{helm} {case}: install of the previous chart", install)
        self.check(f"{helm} {case}: upgrade to this one", upgrade)
        if is_scaled:
            self.check(f"{helm} {case}: scaled to 5 by another", scale)
        self.check(f"{helm} {case}: upgrade of a setting", upgrade_of_a_setting)
        if is_scylla and given.get("migration", {}).get("mode", "hook") == "hook":
            self.check(f"{helm} {case}: a migration that fails stops the upgrade", upgrade_that_cannot_migrate)
        if given.get("tests"):
            self.check(f"{helm} {case}: helm test", lambda: run(helm, "test", RELEASE, "--namespace", namespace, "--timeout", "60s"))
        self.check(f"{helm} {case}: rollback", rollback)
        self.check(f"{helm} {case}: upgrade after the rollback", forward)
        self.check(f"{helm} {case}: uninstall", uninstall)

    def refused(self, helm):
        """Every refused combination, with the API server at hand; nothing is left of any."""
        refused = ROOT / "tests" / "chart" / "refused.py"
        output = run(sys.executable, refused, CHART, "--", helm, "install", "refused", "--namespace", "refused")
        self.passed += int(output.split()[-4]) - 1
        releases = json.loads(run(helm, "list", "--all-namespaces", "--filter", "refused", "--output", "json"))
        must(releases == [], f"left: {releases}")


def main():
    (crds,) = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="message-webhook-chart-") as home:
        work = pathlib.Path(home)
        # No settings or plugins of whoever runs this.
        os.environ.update({f"HELM_{kind}_HOME": f"{home}/helm-{kind.lower()}" for kind in ("CONFIG", "CACHE", "DATA")})
        os.environ["KUBECONFIG"] = f"{home}/kubeconfig"
        for name in ("HELM_NAMESPACE", "HELM_KUBECONTEXT", "HELM_DRIVER"):
            os.environ.pop(name, None)
        cluster = Cluster(work)
        try:
            begun = time.monotonic()
            cluster.start()
            run("kubectl", "apply", "--server-side", "--filename", crds)
            run("kubectl", "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
            print(f"API server {cluster.get('/version')['gitVersion']} up after {time.monotonic() - begun:.0f} s", flush=True)
            checks = Checks(cluster, work)
            files = sorted((CHART / "ci").glob("*-values.yaml"))
            for values in files:
                case = values.name.removesuffix("-values.yaml")
                checks.group(checks.check, f"{case}: Argo CD finds no difference after a sync", lambda v=values: checks.in_sync(v))
            for helm in HELMS:
                print(f"-- {run(helm, 'version', '--short').strip()}", flush=True)
                for values in files:
                    case = values.name.removesuffix("-values.yaml")
                    checks.group(checks.check, f"{helm} {case}: dry run by the server, warnings as errors", lambda h=helm, v=values: checks.dry_run(h, v))
                    checks.group(checks.life_of_a_release, helm, values)
                checks.group(checks.check, f"{helm}: two releases beside each other, and one elsewhere", lambda h=helm: checks.two_releases(h))
                checks.group(checks.check, f"{helm}: the document's commands", lambda h=helm: documents.follow(h, work))
                checks.group(checks.check, f"{helm}: refused combinations", lambda h=helm: checks.refused(h))
            print(f"cluster: {checks.passed} passed, {checks.failed} failed")
            return checks.failed > 0
        finally:
            cluster.stop()


sys.exit(main())

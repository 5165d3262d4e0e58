"""Debian's Prometheus: promtool on the rules and on the real metrics, and a server that scrapes, evaluates and alerts.

One Prometheus scrapes four jobs: a server on each store, which are well, one that refuses most of what it is sent, and
one that stops. The rules are the chart's, of all four jobs; only their patience is shortened, so that an alert takes seconds.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import requests

from run import free_ports

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "helm/message-webhook/rules/message-webhook.yaml"
DASHBOARD = ROOT / "helm/message-webhook/dashboards/message-webhook.json"
PATIENCE = 60

# Panels that have nothing to show where all is well, or without an option, by title.
EMPTY_WHEN_WELL = {
    "Submissions by organisation", "CQL failures", "Claims written again, by cause",
    "Telemetry that could not be exported", "Connections without a request, by reason", "Certificates expire in",
    "Files in use were read",
}


class Prometheus:
    def __init__(self, folder, jobs):
        os.makedirs(folder)
        self.folder = folder
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        # The same rules with no patience: they look neither long back, at how long a server has lived, nor far ahead.
        rules = re.sub(r"^( +for: ).*$", r"\g<1>1s", RULES.read_text(), flags=re.MULTILINE)
        rules = re.sub(r"\[10m\]\)\) < 180$", "[10m])) < 1", rules, flags=re.MULTILINE)
        rules = re.sub(r"\[1[hd]\], 4 \* \d+\)", "[1m], 60)", rules)
        rules = rules.replace('job="message-webhook"', f'job=~"{"|".join(jobs)}"')
        pathlib.Path(folder, "rules.yaml").write_text(rules)
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": name, "static_configs": [{"targets": [server.admin]}]}
                               for name, server in jobs.items()],
        }
        # JSON is YAML.
        pathlib.Path(folder, "prometheus.json").write_text(json.dumps(config))
        self.log = open(os.path.join(folder, "prometheus.log"), "w+")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.json", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.address}", "--log.format=json"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait("Prometheus to be ready", self.is_ready)

    def is_ready(self):
        assert self.process.poll() is None, self.read_log()
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        assert said["status"] == "success" and not said.get("warnings"), said
        return said["data"]

    def query(self, expression):
        return self.get("query", query=expression)["result"]

    def firing(self):
        return {(alert["labels"].get("job"), alert["labels"]["alertname"])
                for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}

    def read_log(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text()

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()


def wait(what, condition):
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.2)
    return value


def traffic(server, mark):
    """Something of everything that a healthy day has."""
    body = {"from_id": "user_abc123", "timestamp": "1672531200", "message_body": "gruyere"}
    post = lambda message, key=server.key: requests.post(
        server.url(), json=message, headers={"Authorization": f"Bearer {key}"}, timeout=20).status_code
    for number in range(10):
        sid = f"{mark}-{number}"
        assert post(body | {"message_sid": sid}) == 200
        assert post(body | {"message_sid": sid}) == 200
        assert post(body | {"message_sid": sid, "message_body": "emmental"}) == 200
        assert post(body) == 400
    assert post(body | {"message_sid": "none"}, key="none") == 401
    for arguments in (["submit", "--from-id", "user_abc123", "--message-sid", f"{mark}-grpc"], ["get", f"{mark}-grpc"],
                      ["list", "user_abc123"], ["tail", "--from", "start", "--count", "5"]):
        done = server.cli(*arguments)
        assert done.returncode == 0, done


def metrics_of(server):
    return requests.get(f"http://{server.admin}/metrics", timeout=20).text


def checks(server, folder):
    for tool in ("prometheus", "promtool"):
        assert shutil.which(tool), f"{tool} is not installed: apt install prometheus"

    def promtool(*arguments, **options):
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=300, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def promtool_accepts_the_rules():
        assert "SUCCESS" in promtool("check", "rules", str(RULES))

    def every_alert_fires_when_it_is_true_and_is_silent_when_it_is_not():
        assert "SUCCESS" in promtool("test", "rules", str(ROOT / "tests/alerts/message-webhook.yaml"))

    # Made once, for the checks below one after the other.
    world = {}

    def promtool_accepts_the_metrics_of_both_stores_after_traffic():
        world["embedded"] = server.another(os.path.join(folder, "watched"))
        world["scylla"] = server.another_on_scylla(os.path.join(folder, "watched-scylla"))
        world["refusing"] = server.another(os.path.join(folder, "refusing"), "--rate-limit-per-org=1")
        world["stopping"] = server.another(os.path.join(folder, "stopping"), "--drain-delay=20s")
        for name in ("embedded", "scylla"):
            traffic(world[name], "before")
            said = promtool("check", "metrics", input=metrics_of(world[name]))
            assert not said.strip(), f"{name}: {said}"

    def prometheus_scrapes_both_stores_without_complaint():
        prometheus = world["prometheus"] = Prometheus(os.path.join(folder, "prometheus"), world)
        wait("every target to be up", lambda: len(prometheus.query("up == 1")) == 4)
        for target in prometheus.get("targets")["activeTargets"]:
            assert target["health"] == "up" and not target["lastError"], target
        # Twice scraped with traffic between, so that there are rates.
        for name in ("embedded", "scylla"):
            traffic(world[name], "scraped")
        counted = 'min by (job) (rate(message_webhook_submissions_total{job=~"embedded|scylla", protocol="http"}[1m])) > 0'
        wait("rates", lambda: len(prometheus.query(counted)) == 2)

    def every_rule_is_evaluated_without_error():
        def rules():
            return [rule for group in world["prometheus"].get("rules")["groups"] for rule in group["rules"]]
        wait("the first evaluation", lambda: all(rule["health"] != "unknown" for rule in rules()))
        assert len(rules()) > 25
        for rule in rules():
            assert rule["health"] == "ok" and not rule.get("lastError"), rule

    def every_panel_of_the_dashboard_shows_something():
        prometheus, nothing = world["prometheus"], set()
        values = {"namespace": ".*", "job": ".*", "instance": ".*", "__rate_interval": "1m"}
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            for target in panel.get("targets", []):
                expression = re.sub(r"\$(\w+)", lambda found: values[found.group(1)], target["expr"])
                if not prometheus.query(expression):
                    nothing.add(panel["title"])
        assert nothing <= EMPTY_WHEN_WELL, nothing - EMPTY_WHEN_WELL

    def where_all_is_well_no_alert_fires():
        firing = {(job, name) for job, name in world["prometheus"].firing() if job in ("embedded", "scylla", None)}
        assert not firing, firing

    def calls_beyond_the_quota_fire_the_alert_of_the_quota():
        sick = world["refusing"]
        body = {"from_id": "user_abc123", "message_sid": "over-quota", "timestamp": "1672531200"}
        headers = {"Authorization": f"Bearer {sick.key}"}
        codes = [requests.post(sick.url(), json=body, headers=headers, timeout=20).status_code for _ in range(50)]
        assert codes.count(429) > 10, codes
        wait("the alert", lambda: ("refusing", "MessageWebhookRateLimited") in world["prometheus"].firing())

    def a_server_that_stops_fires_the_alerts_of_readiness_and_then_of_its_target():
        sick, prometheus = world["stopping"], world["prometheus"]
        sick.process.send_signal(signal.SIGTERM)
        wanted = {("stopping", "MessageWebhookNotReady"), ("stopping", "MessageWebhookNoneReady")}
        wait("the alerts", lambda: wanted <= prometheus.firing())
        # The second signal ends the wait for load balancers.
        sick.process.send_signal(signal.SIGTERM)
        sick.process.wait(timeout=60)
        wait("the alert", lambda: ("stopping", "MessageWebhookTargetDown") in prometheus.firing())

    def prometheus_and_the_servers_end_without_a_warning():
        prometheus = world["prometheus"]
        bad = [line for line in prometheus.read_log().splitlines() if json.loads(line).get("level") in ("warn", "error")]
        prometheus.stop()
        for name in ("embedded", "scylla", "refusing"):
            assert world[name].stop() == 0, name
        assert not bad, bad

    return [
        promtool_accepts_the_rules,
        every_alert_fires_when_it_is_true_and_is_silent_when_it_is_not,
        promtool_accepts_the_metrics_of_both_stores_after_traffic,
        prometheus_scrapes_both_stores_without_complaint,
        every_rule_is_evaluated_without_error,
        every_panel_of_the_dashboard_shows_something,
        where_all_is_well_no_alert_fires,
        calls_beyond_the_quota_fire_the_alert_of_the_quota,
        a_server_that_stops_fires_the_alerts_of_readiness_and_then_of_its_target,
        prometheus_and_the_servers_end_without_a_warning,
    ]

"""grpcurl, which knows the API by reflection alone."""

import json
import subprocess

SERVICE = "messagewebhook.v1.MessageService"


def checks(server, folder):
    def grpcurl(*arguments, body=None, key=server.key):
        command = ["grpcurl", "-plaintext", "-max-time", "20", "-format-error"]
        if key:
            command += ["-H", f"authorization: Bearer {key}"]
        if body is not None:
            command += ["-d", json.dumps(body)]
        done = subprocess.run([*command, server.grpc, *arguments], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def call(method, body, key=server.key):
        code, out, err = grpcurl(f"{SERVICE}/{method}", body=body, key=key)
        assert code == 0, err
        return json.loads(out)

    def refused(method, body, code, reason, key=server.key):
        exit_code, out, err = grpcurl(f"{SERVICE}/{method}", body=body, key=key)
        # grpcurl ends with 64 plus the status code, and prints the details as JSON.
        assert exit_code == 64 + code, (exit_code, out, err)
        error = json.loads(err)
        info = next(detail for detail in error["details"] if detail["@type"].endswith("google.rpc.ErrorInfo"))
        assert info["reason"] == reason, error
        return error

    message = {"fromId": "user_grpcurl", "messageSid": "g1", "timestamp": "2024-12-18T12:00:00Z", "messageBody": "hi"}

    def reflection_lists_the_services():
        code, out, err = grpcurl("list")
        assert code == 0, err
        assert {SERVICE, "grpc.health.v1.Health"} <= set(out.split()), out
        code, out, err = grpcurl("describe", SERVICE)
        assert code == 0 and "SubmitMessage" in out and "GetMessage" in out, err

    def a_message_is_accepted_once_and_then_a_duplicate():
        first, second = call("SubmitMessage", message), call("SubmitMessage", message)
        assert first["outcome"] == "SUBMIT_OUTCOME_ACCEPTED" and first["messageSid"] == "g1", first
        assert second["outcome"] == "SUBMIT_OUTCOME_DUPLICATE", second
        assert (first["acceptedAt"], first["duplicatesUntil"]) == (second["acceptedAt"], second["duplicatesUntil"])
        third = call("SubmitMessage", {**message, "messageBody": "other"})
        assert third["payloadMismatch"] is True, third

    def what_was_submitted_is_read_back():
        found = call("GetMessage", {"messageSid": "g1"})["message"]
        assert found["orgId"] == "acme" and found["env"] == "ENVIRONMENT_DEV", found
        assert {name: found[name] for name in message} == message, found

    def a_platform_key_names_org_and_environment():
        target = {"orgId": "acme", "env": "ENVIRONMENT_DEV", "messageSid": "g1"}
        assert call("GetMessage", target, key=server.platform_key)["message"]["fromId"] == "user_grpcurl"
        refused("GetMessage", {"messageSid": "g1"}, 3, "INVALID_ARGUMENT", key=server.platform_key)

    def wrong_fields_are_named():
        error = refused("SubmitMessage", {"messageSid": "g2", "imageUrl": "http://10.0.0.1/a.jpg"}, 3, "INVALID_MESSAGE")
        bad = next(detail for detail in error["details"] if detail["@type"].endswith("google.rpc.BadRequest"))
        fields = {violation["field"] for violation in bad["fieldViolations"]}
        assert {"from_id", "timestamp"} <= fields and len(fields) == 3, error

    def keys_are_checked():
        refused("SubmitMessage", message, 16, "UNAUTHENTICATED", key=None)
        refused("SubmitMessage", message, 16, "UNAUTHENTICATED", key="nonsense")
        refused("SubmitMessage", {**message, "orgId": "other"}, 7, "PERMISSION_DENIED")
        refused("GetMessage", {"messageSid": "g1"}, 7, "PERMISSION_DENIED", key=server.submit_only_key)

    def what_is_not_there_is_not_found():
        refused("GetMessage", {"messageSid": "never sent"}, 5, "MESSAGE_NOT_FOUND")

    def health_serves():
        code, out, err = grpcurl("grpc.health.v1.Health/Check", body={"service": SERVICE}, key=None)
        assert code == 0 and json.loads(out)["status"] == "SERVING", (out, err)

    return [reflection_lists_the_services, a_message_is_accepted_once_and_then_a_duplicate,
            what_was_submitted_is_read_back, a_platform_key_names_org_and_environment, wrong_fields_are_named,
            keys_are_checked, what_is_not_there_is_not_found, health_serves]
